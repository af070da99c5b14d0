"""What of a script may run side by side."""

from __future__ import annotations

from resurgam.postgres.loadplan import Group, JobKind, plan
from tests.postgres.dumps import scan

TABLES = b"""CREATE TABLE s.a (id int);
CREATE TABLE s.b (id int);
CREATE UNLOGGED TABLE s.parts (id int, at date)
PARTITION BY RANGE (at);
"""
KEY = b"ALTER TABLE ONLY s.%s ADD CONSTRAINT k%d FOREIGN KEY (id) REFERENCES s.%s(id);\n"


def kinds(text: bytes) -> list[JobKind]:
    stages = plan(scan(text), lambda statement: False)
    return [job.kind for stage in stages if isinstance(stage, Group) for job in stage.jobs]


def test_a_foreign_key_between_plain_tables_is_checked_by_itself() -> None:
    assert kinds(TABLES + KEY % (b"a", 1, b"b")) == [JobKind.FOREIGN_KEY, JobKind.VALIDATION]


def test_a_foreign_key_of_or_to_a_partitioned_table_is_added_as_it_stands() -> None:
    for one, other in ((b"a", b"parts"), (b"parts", b"a")):
        assert kinds(TABLES + KEY % (one, 1, other)) == [JobKind.FOREIGN_KEY]


def test_where_the_partitioned_tables_are_not_known_all_keys_are_added_as_they_stand() -> None:
    for statement in (
        b"ALTER TABLE s.parts RENAME TO b;\n",
        b"CREATE TABLE IF NOT EXISTS s.more (id int) PARTITION BY HASH (id);\n",
    ):
        assert kinds(TABLES + statement + KEY % (b"a", 1, b"b")) == [JobKind.FOREIGN_KEY]

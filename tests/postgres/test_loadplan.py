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


def test_keys_of_large_tables_are_built_as_indexes_beside_the_others() -> None:
    rows = b"COPY s.%s (id) FROM stdin;\n" + b"1234567\n" * 200_000 + b"\\.\n"
    key = b"ALTER TABLE ONLY s.%s ADD CONSTRAINT k PRIMARY KEY (%s);\n"
    two = [JobKind.DATA, JobKind.INDEX, JobKind.KEY]
    assert kinds(TABLES + rows % b"a" + key % (b"a", b"id")) == two
    (group,) = (
        s for s in plan(scan(TABLES + rows % b"a" + key % (b"a", b"id")), lambda _: False) if isinstance(s, Group)
    )
    assert [job.needs for job in group.jobs] == [set(), {0}, {0, 1}]
    for table, columns in ((b"parts", b"id"), (b"a", b'"Id"'), (b"a", b"id) INCLUDE (more"), (b"b", b"id")):
        data = rows % (b"a" if table == b"b" else table)
        assert kinds(TABLES + data + key % (table, columns)) == [JobKind.DATA, JobKind.KEY]

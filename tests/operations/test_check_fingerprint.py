"""Backups with outline and fingerprint: restored by them, refused where they lie (docs/archive-format.md)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resurgam.archive.footer import METADATA_NAME
from resurgam.archive.opening import open_archive
from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter
from resurgam.errors import DamagedError, HostileError, RestoreFailed, RestoreRefused, UsageError, VerifyFailed
from resurgam.operations import check_fingerprint as check_fingerprint_module
from resurgam.operations import metadata as metadata_module
from resurgam.operations.check_fingerprint import recorded_fingerprint
from resurgam.operations.restore import Parts, Wishes
from resurgam.postgres import fingerprint as fingerprint_module
from resurgam.postgres.connection import Server
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.postgres.fingerprint import Fingerprint
from tests.clusters import Database, Role
from tests.operations.backups import small_scene
from tests.operations.scene import Scene, lost, scene_for

DATABASE = Parts(True, False, False)
QUICK = {"RESTORE_SAFETY_BACKUP": "false"}
FULL = Wishes(full_check=True)


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    made = small_scene(database, tmp_path)
    made.more.update(QUICK)
    # Random, so that an edit of the dump is one of the archive too; and large enough for an outline.
    made.execute(
        "CREATE TABLE scans (id int PRIMARY KEY, body text)",
        "INSERT INTO scans SELECT n, md5(n::text) || md5((n + 1)::text) FROM generate_series(1, 6000) n",
    )
    return made


def rewritten(
    scene: Scene, name: str, dump: Callable[[bytes], bytes], metadata: Callable[[dict[str, Any]], None] = lambda m: None
) -> None:
    """The archive with another dump or other metadata, sound in itself: whoever wrote it can compute digests."""
    path = scene.backups / f"{name}.tar.gz"
    new = path.with_suffix(".new")
    with (
        open_archive(path) as old,
        new.open("w+b") as file,
        ArchiveWriter(PlainSink(file.fileno()), name, mtime_ns=0) as writer,
    ):
        fields = old.metadata()
        metadata(fields)
        for entry, blocks in old.contents(lambda entry: True):
            if entry.path.endswith(b".sql") and entry.path.startswith(b"database_"):
                writer.add_late(entry, [dump(b"".join(blocks))])
            elif entry.path != METADATA_NAME:
                writer.add(entry, list(blocks))
        writer.finish(json.dumps(fields).encode(), 0)
    new.rename(path)


def unchanged(dump: bytes) -> bytes:
    return dump


def backup(scene: Scene) -> str:
    with scene.service() as service:
        return service.backup().name


def restore(scene: Scene, name: str, wishes: Wishes = FULL) -> None:
    with scene.service() as service:
        service.restore(name, DATABASE, wishes)


def test_sentence_30_what_is_restored_is_what_was_backed_up(
    pg: EmbeddedServer, database: Database, tmp_path: Path
) -> None:
    _round(scene_for(database, tmp_path, None, **QUICK).make())


def test_sentence_30_for_a_plain_owner(
    pg: EmbeddedServer, owned_database: Database, owner_role: Role, tmp_path: Path
) -> None:
    _round(scene_for(owned_database, tmp_path, owner_role, **QUICK).make())


def _round(scene: Scene) -> None:
    before = scene.seen()
    name = backup(scene)
    scene.wreck()
    with scene.service() as service:
        service.verify(name)
        service.restore(name, Parts(), FULL)
    assert lost(before, scene.seen()) == []


def test_sentences_22_and_27_are_in_the_metadata(scene: Scene) -> None:
    with scene.service() as service:
        fields = service.backup().metadata["database"]
    fingerprint = recorded_fingerprint({"database": fields})
    assert fingerprint is not None
    assert {name: rows for (_, name), (rows, _) in fingerprint.tables.items()} == {
        "reports": 2000,
        "users": 0,
        "scans": 6000,
    }
    (small, large) = sorted(fields["outline"], key=lambda block: block[2])
    assert (small[2], large[2]) == (2000, 6000)
    assert fingerprint.objects["TABLE"].count == 3


EDITS: dict[str, tuple[Callable[[bytes], bytes], str, int, str]] = {
    "changed": (
        lambda dump: dump.replace(b"\n7\tfinding", b"\n7\tFinding"),
        "reports",
        0,
        "The table public.reports has its 2,000 rows, but not their content.",
    ),
    "swapped": (
        lambda dump: dump.replace(b"\n7\tfin", b"\n#").replace(b"\n8\tfin", b"\n7\tfin").replace(b"\n#", b"\n8\tfin"),
        "reports",
        0,
        "The table public.reports has its 2,000 rows, but not their content.",
    ),
    "removed": (
        lambda dump: dump.replace(b"\n7\t" + b"finding " * 20, b""),
        "reports",
        -1,
        "The table public.reports has 1,999 rows instead of 2,000.",
    ),
    "added": (
        lambda dump: dump.replace(b"COPY public.users (id) FROM stdin;\n", b"COPY public.users (id) FROM stdin;\n4\n"),
        "users",
        1,
        "The table public.users has 1 row instead of 0.",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_sentence_30_an_edited_dump_is_found_and_named(scene: Scene, edit: str) -> None:
    change, table, rows, sentence = EDITS[edit]
    name = backup(scene)
    edited = []

    def metadata(fields: dict[str, Any]) -> None:
        """Whoever edits the rows may count them anew, too; the fingerprint tells still."""
        del fields["database"]["outline"]
        for entry in fields["database"]["tables"]:
            entry[2] += rows if entry[1] == table else 0

    def dump(data: bytes) -> bytes:
        edited.append(change(data) != data)
        return change(data)

    rewritten(scene, name, dump, metadata)
    assert edited == [True]
    scene.execute("UPDATE users SET id = 1", "CREATE TABLE live ()")
    with scene.service() as service, pytest.raises(VerifyFailed) as refused:
        service.verify(name)
    assert sentence in refused.value.message
    with pytest.raises(RestoreFailed) as failed:
        restore(scene, name)
    assert sentence in failed.value.message
    assert scene.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'live'") == [(1,)]
    assert scene.leftovers() == []
    # Rows that are counted only tell nothing of it: that is what the full check is for.
    restore(scene, name, Wishes())
    assert scene.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'live'") == [(0,)]


def test_sentence_30_a_function_with_unnamed_columns_makes_no_difference(scene: Scene) -> None:
    """What the server makes of its literals once must not be told as another definition; another literal must."""
    scene.execute(
        "CREATE FUNCTION unnamed() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT -1, NULL UNION SELECT 2, 'y';"
        " SELECT 'was'; END"
    )
    name = backup(scene)
    restore(scene, name)
    assert scene.execute("SELECT unnamed()") == [("was",)]
    with scene.service() as service:
        assert service.drill(name).report["differences"] == []
    rewritten(scene, name, lambda dump: dump.replace(b"SELECT 'was'", b"SELECT 'now'"))
    with pytest.raises(RestoreFailed, match=r"The FUNCTION public\.unnamed\(\) is defined otherwise"):
        restore(scene, name)
    assert scene.execute("SELECT unnamed()") == [("was",)]


def test_sentence_31_a_view_that_was_out_of_date_makes_no_difference(scene: Scene) -> None:
    scene.execute(
        "CREATE MATERIALIZED VIEW counts AS SELECT count(*) AS n FROM scans",
        "DELETE FROM scans WHERE id < 10",
        "CREATE MATERIALIZED VIEW fresh AS SELECT id FROM scans",
    )
    name = backup(scene)
    restore(scene, name)
    assert scene.execute("SELECT n FROM counts") == [(5991,)]


def test_sentence_31_a_view_that_was_filled_wrongly_does(scene: Scene) -> None:
    """Its rows are not what its query gives of the tables: here because something emptied it of most of them."""
    scene.execute("CREATE MATERIALIZED VIEW tops AS SELECT id FROM scans")
    name = backup(scene)
    real = fingerprint_module.read_back

    def read_back(server: Server, *args: Any, **more: Any) -> Fingerprint:
        """A table that lost its rows after the view was filled."""
        found = real(server, *args, **more)
        return replace(found, matviews={"public.tops": (3, "0" * 32)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_fingerprint_module, "read_back", read_back)
        with pytest.raises(RestoreFailed, match=r"The materialized view public\.tops has 3 rows instead of 6,000\."):
            restore(scene, name)


def test_a_restore_beside_can_be_checked_in_full(scene: Scene) -> None:
    name = backup(scene)
    beside = Wishes(full_check=True, into=f"{scene.database}_previous_other")
    with scene.service() as service:
        service.restore_beside(name, beside)
    rewritten(scene, name, lambda dump: dump.replace(b"\n7\tfinding", b"\n7\tFinding"))
    with scene.service() as service, pytest.raises(RestoreFailed, match=r"public\.reports has its 2,000 rows, but not"):
        service.restore_beside(name, replace(beside, into=f"{scene.database}_previous_third"))
    assert scene.leftovers() == []
    with pytest.raises(UsageError, match="fingerprint"):
        Wishes(full_check=True, tables=("public.reports",)).check()


def test_a_backup_without_fingerprint_can_not_be_checked_in_full(scene: Scene) -> None:
    name = backup(scene)
    rewritten(scene, name, unchanged, lambda fields: fields["database"].pop("fingerprint"))
    with pytest.raises(RestoreRefused, match="no fingerprint"):
        restore(scene, name)
    restore(scene, name, Wishes())


def _lying(change: Callable[[list[list[int]]], object]) -> Callable[[dict[str, Any]], None]:
    def metadata(fields: dict[str, Any]) -> None:
        fields["database"]["outline"] = change(fields["database"]["outline"])

    return metadata


LIES: dict[str, Callable[[list[list[int]]], object]] = {
    "all one block": lambda blocks: [[blocks[0][0], blocks[1][0] + blocks[1][1] - blocks[0][0], 8000]],
    "rows": lambda blocks: [[blocks[0][0], blocks[0][1], blocks[0][2] - 1], blocks[1]],
    "rows moved": lambda blocks: [[*blocks[0][:2], blocks[0][2] - 1], [*blocks[1][:2], blocks[1][2] + 1]],
    "shifted": lambda blocks: [[blocks[0][0] + 1, blocks[0][1] - 1, blocks[0][2]], blocks[1]],
    "longer": lambda blocks: [blocks[0], [blocks[1][0], blocks[1][1] + 1, blocks[1][2]]],
    "overlapping": lambda blocks: [blocks[0], blocks[0]],
    "backwards": lambda blocks: blocks[::-1],
    "outside": lambda blocks: [[1 << 60, 5, 1]],
    "no list": lambda blocks: {"blocks": 1},
}


@pytest.mark.parametrize("lie", LIES)
def test_sentences_23_to_26_an_outline_that_lies_restores_nothing(scene: Scene, lie: str) -> None:
    name = backup(scene)
    rewritten(scene, name, unchanged, _lying(LIES[lie]))
    scene.execute("CREATE TABLE live ()")
    with pytest.raises((DamagedError, VerifyFailed)):
        restore(scene, name, Wishes())
    assert scene.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'live'") == [(1,)]
    assert scene.leftovers() == []
    with scene.service() as service, pytest.raises(VerifyFailed, match="outline"):
        service.verify(name)


def test_sentence_25_what_a_scan_refuses_is_not_hidden_by_an_outline(scene: Scene) -> None:
    """A program in the middle of table data: refused by the scanner, and as data it is found while it is loaded."""
    name = backup(scene)
    evil = b"\\.\n\\! touch /tmp/owned\nCOPY public.scans (id, body) FROM stdin;\n"
    lines = evil.count(b"\n")

    def dump(data: bytes) -> bytes:
        at = data.index(b"\n5000\t") + 1
        return data[:at] + evil + data[at:]

    def metadata(fields: dict[str, Any]) -> None:
        blocks = sorted(fields["database"]["outline"])
        large = next(block for block in blocks if block[2] == 6000)
        for block in blocks:
            block[0] += len(evil) if block[0] > large[0] else 0
        large[1] += len(evil)
        large[2] += lines
        next(entry for entry in fields["database"]["tables"] if entry[1] == "scans")[2] += lines
        fields["database"]["outline"] = blocks

    rewritten(scene, name, dump, metadata)
    with pytest.raises(DamagedError, match=r"public\.scans .* are not what the dump's outline says"):
        restore(scene, name, Wishes())
    rewritten(scene, name, unchanged, lambda fields: fields["database"].pop("outline"))
    with pytest.raises(HostileError):
        restore(scene, name, Wishes())
    assert not Path("/tmp/owned").exists()


def test_sentence_29_what_does_not_fit_in_the_metadata_is_left_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the dump is read whole again, and rows are counted."""
    monkeypatch.setattr(metadata_module, "MAX_METADATA", 1)
    with scene.service() as service:
        done = service.backup()
        assert "outline" not in done.metadata["database"]
        assert "fingerprint" not in done.metadata["database"]
        service.verify(done.name)
        service.restore(done.name, DATABASE, Wishes())
    assert scene.execute("SELECT count(*) FROM scans") == [(6000,)]

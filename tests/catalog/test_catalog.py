"""The catalog: it agrees with what lies there, it may be lost at any moment, and it is quick."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgam.catalog.catalog import Catalog, Condition, Description, StoredFile
from resurgam.catalog.facts import facts_of
from resurgam.errors import StateError


def stored(name: str, location: str = "local", size: int = 10, mtime_ns: int = 1, inode: int = 1) -> StoredFile:
    return StoredFile(location, name, size, mtime_ns, inode)


def good(sequence: int, **more: Any) -> Description:
    return Description("good", "", {"sequence": sequence, "datetime_utc": "2025-01-04T14:30:22.123456+00:00", **more})


class Reader:
    """Describes archives from a table, and counts."""

    def __init__(self, known: dict[tuple[str, str], Description]) -> None:
        self.known = known
        self.asked: list[str] = []

    def __call__(self, file: StoredFile) -> Description:
        self.asked.append(file.name)
        return self.known[file.location, file.name]


def never(file: StoredFile) -> Description:
    raise AssertionError(f"{file.name} was described again")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite"


def filled(path: Path, count: int = 3) -> list[StoredFile]:
    files = [stored(f"b{number}") for number in range(1, count + 1)]
    with Catalog.open(path) as catalog:
        catalog.refresh("local", files, lambda file: good(int(file.name[1:])))
    return files


def names(path: Path) -> list[str]:
    with Catalog.open(path) as catalog:
        return [record.name for record in catalog.backups()]


def test_only_new_and_changed_files_are_described(path: Path) -> None:
    files = filled(path)
    with Catalog.open(path) as catalog:
        assert catalog.refresh("local", files, never) == 0
        for changed in (stored("b2", size=11), stored("b2", mtime_ns=2), stored("b2", inode=2)):
            reader = Reader({("local", "b2"): good(20)})
            assert catalog.refresh("local", [files[0], changed, files[2]], reader) == 1
            assert reader.asked == ["b2"]
        assert [(record.name, record.sequence) for record in catalog.backups()] == [("b1", 1), ("b3", 3), ("b2", 20)]
        assert catalog.next_sequence() == 21


def test_vanished_files_are_forgotten_in_their_location_only(path: Path) -> None:
    files = filled(path)
    with Catalog.open(path) as catalog:
        remote = [stored(file.name, "remote") for file in files]
        catalog.refresh("remote", remote, lambda file: good(int(file.name[1:])))
        catalog.refresh("local", files[:1], never)
        locations = {record.name: record.locations for record in catalog.backups()}
        assert locations == {"b1": ("local", "remote"), "b2": ("remote",), "b3": ("remote",)}
        catalog.forget("remote", "b2")
        assert catalog.get("b2") is None
        assert catalog.metadata("b2") is None
        catalog.refresh("remote", [], never)
        assert [record.name for record in catalog.backups()] == ["b1"]


def test_the_best_copy_speaks_for_a_backup(path: Path) -> None:
    known = {
        ("local", "b"): Description("damaged", "cut short", None),
        ("remote", "b"): good(7, database={"size_bytes": 5}),
    }
    with Catalog.open(path) as catalog:
        for location in ("local", "remote"):
            catalog.refresh(location, [stored("b", location, size=len(location))], Reader(known))
        record = catalog.get("b")
        assert record is not None
        assert (record.condition, record.problem, record.size, record.database_size) == ("good", "", 6, 5)
        assert record.locations == ("remote", "local")
        assert [copy.problem for copy in record.copies] == ["", "cut short"]
        assert record.taken_at == datetime(2025, 1, 4, 14, 30, 22, 123456, tzinfo=UTC)
        assert catalog.backups() == [record]
        assert catalog.metadata("b") == known["remote", "b"].metadata


def test_order_is_by_sequence_then_time_then_name(path: Path) -> None:
    known = {
        "x_backup_20250102_000000": Description("foreign"),
        "x_backup_20250101_000000": Description("foreign"),
        "b": good(1, datetime_utc="2030-01-01T00:00:00+00:00"),
        "a": good(1, datetime_utc="2030-01-01T00:00:00+00:00"),
        "z": good(2, datetime_utc="2020-01-01T00:00:00+00:00"),
    }
    with Catalog.open(path) as catalog:
        catalog.refresh("local", [stored(name) for name in known], lambda file: known[file.name])
        assert [record.name for record in catalog.backups()] == [
            "x_backup_20250101_000000",
            "x_backup_20250102_000000",
            "a",
            "b",
            "z",
        ]


def test_a_file_that_goes_while_it_is_described(path: Path) -> None:
    def describe(file: StoredFile) -> Description:
        if file.name == "b":
            raise FileNotFoundError(file.name)
        return good(1)

    with Catalog.open(path) as catalog:
        catalog.refresh("local", [stored("a"), stored("b")], describe)
        assert [record.name for record in catalog.backups()] == ["a"]


def test_what_was_described_before_a_failure_is_kept(path: Path) -> None:
    def describe(file: StoredFile) -> Description:
        if file.name == "c":
            raise PermissionError(file.name)
        return good(1)

    with Catalog.open(path) as catalog, pytest.raises(PermissionError):
        catalog.refresh("local", [stored("a"), stored("b"), stored("c")], describe)
    assert names(path) == ["a", "b"]


def test_strange_names_and_problems(path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9_backup")
    with Catalog.open(path) as catalog:
        catalog.refresh("local", [stored(odd), stored("ok")], lambda file: Description("damaged", f"in {odd}"))
        assert [record.name for record in catalog.backups()] == ["ok"]
        assert catalog.get(odd) is None
        catalog.forget("local", odd)


def test_a_deleted_catalog_is_rebuilt(path: Path) -> None:
    files = filled(path)
    path.unlink()
    with Catalog.open(path) as catalog:
        assert catalog.backups() == []
        assert catalog.refresh("local", files, lambda file: good(int(file.name[1:]))) == 3
        assert catalog.persistent
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"not a database" * 500, b"SQLite format 3\0" + b"\xff" * 5000, b"", b"S"])
def test_a_file_that_is_no_database_is_thrown_away(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    filled(path)
    assert names(path) == ["b1", "b2", "b3"]


def test_damage_found_late_is_named_and_mended_by_the_next_run(path: Path) -> None:
    files = filled(path, 2000)
    with path.open("r+b") as file:
        # The first page, with the schema, stays.
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    with Catalog.open(path) as catalog, pytest.raises(StateError) as caught:
        catalog.backups()
    assert str(path) in caught.value.message
    with Catalog.open(path) as catalog:
        assert catalog.refresh("local", files, lambda file: good(int(file.name[1:]))) == 2000
        assert len(catalog.backups()) == 2000


def test_another_version_is_thrown_away(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 999")
    raw.close()
    assert names(path) == []
    filled(path)
    assert names(path) == ["b1", "b2", "b3"]


def test_somebody_elses_database_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE precious (x)")
        raw.execute("INSERT INTO precious VALUES (1)")
    raw.close()
    with Catalog.open(path) as catalog:
        assert not catalog.persistent
        catalog.refresh("local", [stored("a")], lambda file: good(1))
        assert len(catalog.backups()) == 1
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT x FROM precious").fetchall() == [(1,)]
        assert raw.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    raw.close()


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that others may read only, with this process as another user: root may write anywhere."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Path(folder)
        place.chmod(0o755)
        yield place
        if os.geteuid() != os.getuid():
            os.seteuid(os.getuid())
        place.chmod(0o755)


def drop_rights(folder: Path) -> None:
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_a_folder_for_reading_only_is_listed_from_memory(unprivileged: Path) -> None:
    drop_rights(unprivileged)
    with Catalog.open(unprivileged / "catalog.sqlite") as catalog:
        assert not catalog.persistent
        assert catalog.refresh("local", [stored("a")], lambda file: good(1)) == 1
        assert [record.name for record in catalog.backups()] == ["a"]
    assert list(unprivileged.iterdir()) == []


def test_a_catalog_for_reading_only_still_spares_the_work(unprivileged: Path) -> None:
    file = unprivileged / "catalog.sqlite"
    files = filled(file)
    file.chmod(0o444)
    drop_rights(unprivileged)
    with Catalog.open(file) as catalog:
        assert not catalog.persistent
        assert catalog.refresh("local", files, never) == 0
        assert len(catalog.backups()) == 3


def test_a_missing_folder_is_an_empty_list(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "missing" / "catalog.sqlite") as catalog:
        assert catalog.backups() == []
        assert catalog.next_sequence() == 1


def test_a_full_disk_is_gone_on_from_in_memory(path: Path) -> None:
    files = filled(path)
    with Catalog.open(path) as catalog:
        # SQLite answers SQLITE_FULL beyond this, as it does for ENOSPC.
        catalog._database.pragma("max_page_count = 1")
        more = [*files, *(stored(f"b{number}") for number in range(4, 3000))]
        assert catalog.refresh("local", more, lambda file: good(int(file.name[1:]))) == 2996
        assert len(catalog.backups()) == 2999
        assert not catalog.persistent
    assert names(path) == ["b1", "b2", "b3"]


WRITER = """
import sys, time
from pathlib import Path
from resurgam.catalog.catalog import *
path, location, count, pause = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
def describe(file):
    time.sleep(pause)
    return Description("good", "", {"sequence": int(file.name[1:]), "filler": "x" * 500})
files = [StoredFile(location, f"b{n}", n, n, n) for n in range(1, count + 1)]
print("ready", flush=True)
with Catalog.open(path) as catalog:
    catalog.refresh(location, files, describe)
"""


def writer(path: Path, location: str, count: int, pause: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), location, str(count), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_write_together(path: Path) -> None:
    writers = [writer(path, location, 3000) for location in ("local", "remote", "third")]
    assert [process.wait(60) for process in writers] == [0, 0, 0]
    with Catalog.open(path) as catalog:
        records = catalog.backups()
    assert len(records) == 3000
    assert all(len(record.locations) == 3 for record in records)


def test_a_kill_while_writing_loses_no_more_than_work(path: Path) -> None:
    described = []
    for delay in (0.0, 0.05, 0.1, 0.15):
        process = writer(path, "local", 4000, pause=0.00001)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        described.append(len(names(path)))
    assert described == sorted(described)
    assert writer(path, "local", 4000).wait(60) == 0
    with Catalog.open(path) as catalog:
        assert len(catalog.backups()) == 4000
        assert catalog.metadata("b4000") == {"sequence": 4000, "filler": "x" * 500}


def test_listing_does_not_import_sqlalchemy(path: Path) -> None:
    filled(path)
    code = f"""
import sys
from pathlib import Path
from resurgam.catalog.catalog import Catalog
with Catalog.open(Path({str(path)!r})) as catalog:
    assert len(catalog.backups()) == 3
assert not any(name.split(".")[0] in ("alembic", "sqlalchemy", "pydantic") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
fields = st.sampled_from(["sequence", "datetime", "datetime_utc", "database", "size_mb"])
conditions: st.SearchStrategy[Condition] = st.sampled_from(["good", "foreign", "damaged"])


@given(
    st.dictionaries(
        fields, anything | st.dictionaries(st.sampled_from(["size_bytes", "size_mb"]), anything, max_size=2), max_size=5
    ),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=30) | st.from_regex(r"x_backup_[0-9]{8}_[0-9]{6}"),
    conditions,
)
def test_metadata_of_any_shape_is_listed(metadata: dict[str, Any], name: str, condition: Condition) -> None:
    facts = facts_of(name, 0, metadata)
    assert 0 <= facts.sequence <= 2**48
    with Catalog.open(Path("/proc/nowhere/catalog.sqlite")) as catalog:
        catalog.refresh("local", [stored(name)], lambda file: Description(condition, "", metadata))
        (record,) = catalog.backups()
        assert record.condition == condition
        assert record.taken_at.tzinfo is UTC
        assert repr(catalog.metadata(name)) == repr(metadata)


def test_facts_of_the_manuals_metadata() -> None:
    manual = {"datetime": "2025-01-04T14:30:22.123456", "database": {"success": True, "size_mb": 38.1}}
    facts = facts_of("radiology_backup_20250104_143022", 0, manual)
    assert (facts.sequence, facts.database_size) == (0, round(38.1 * 1048576))
    assert facts.taken_us == 1736001022123456
    assert facts_of("radiology_backup_20250104_143022", 0, None).taken_us == 1736001022000000
    assert facts_of("radiology_backup_20259999_999999", 5000, None).taken_us == 5
    zoned = {"datetime": "2025-01-04T14:30:22", "datetime_utc": "2025-01-04T15:30:22+01:00"}
    assert facts_of("x", 0, zoned).taken_us == 1736001022000000


def test_ten_thousand_backups(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = {f"table_{number}": number for number in range(60)}
    files = [StoredFile("local", f"radiology_backup_{n:015}", n, n, n) for n in range(1, 10001)]
    begin = time.perf_counter()
    with Catalog.open(path) as catalog:
        catalog.refresh("local", files, lambda file: good(file.size, database={"size_bytes": 1, "tables": tables}))
    built = time.perf_counter()
    with Catalog.open(path) as catalog:
        catalog.refresh("local", files, never)
        records = catalog.backups()
    loaded = time.perf_counter()
    assert [record.sequence for record in records] == list(range(1, 10001))
    with capsys.disabled():
        print(f"\n10,000 backups: rebuilt in {built - begin:.2f} s, opened and listed in {loaded - built:.3f} s")

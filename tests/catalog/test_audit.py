"""The audit log: whatever happens to an entry afterwards is found."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resurgam.catalog.audit import Actor, AuditLog, local_actor
from resurgam.catalog.audit_chain import Head, digest_of
from resurgam.catalog.state import State
from resurgam.errors import BusyError, StorageError
from tests.sampling import SEED

ADMIN = Actor("token:boss", "admin", "api")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def state(path: Path) -> Iterator[State]:
    with State.open(path) as opened:
        yield opened


def fill(state: State, count: int = 6) -> None:
    for number in range(1, count + 1):
        state.audit.append("token:boss", "admin", "api", "delete", f"backup-{number}", "ok", {"number": number})


def tampered(state: State, path: Path, *statements: str) -> str:
    """The problems after someone else changed the file, as one text."""
    with sqlite3.connect(path) as raw:
        for statement in statements:
            raw.execute(statement)
    raw.close()
    return " ".join(state.audit.verify().problems)


def stored(path: Path, number: int) -> dict[str, object]:
    with sqlite3.connect(path) as raw:
        raw.row_factory = sqlite3.Row
        row = dict(raw.execute("SELECT * FROM audit WHERE id = ?", (number,)).fetchone())
    raw.close()
    return row


def forge(path: Path, row: dict[str, object]) -> str:
    """An INSERT of an entry whose own digest is right."""
    row["digest"] = digest_of(row)
    values = ", ".join(str(value) if isinstance(value, int) else f"'{value}'" for value in row.values())
    return f"INSERT OR REPLACE INTO audit ({', '.join(row)}) VALUES ({values})"


def test_entries_are_kept_in_order_and_the_chain_is_whole(state: State) -> None:
    assert state.audit.verify().problems == ()
    assert state.audit.verify().last is None
    fill(state)
    check = state.audit.verify()
    newest = state.audit.page(1)[0]
    assert (check.entries, check.problems, check.last) == (6, (), Head(6, newest.digest))
    assert [entry.target for entry in state.audit.page(2)] == ["backup-6", "backup-5"]
    assert [entry.id for entry in state.audit.page(10, before=3)] == [2, 1]
    assert (newest.actor, newest.role, newest.origin, newest.details) == ("token:boss", "admin", "api", {"number": 6})


@pytest.mark.parametrize(
    "column, value",
    [
        ("at_us", "at_us + 1"),
        *((name, "'other'") for name in ("actor", "role", "origin", "action", "target", "outcome", "previous")),
        ("details", "'{}'"),
        ("digest", f"'{'a' * 64}'"),
        ("target", "x'ff00'"),
        ("at_us", "'never'"),
        ("at_us", "1 << 62"),
        ("details", "'[1'"),
    ],
)
@pytest.mark.parametrize("number", [1, 3, 6])
def test_an_edited_entry_is_found(state: State, path: Path, column: str, value: str, number: int) -> None:
    fill(state)
    told = tampered(state, path, f"UPDATE audit SET {column} = {value} WHERE id = {number}")
    assert told == f"Entry {number} is not what was written: edited."
    assert len([json.dumps(entry.to_json()) for entry in state.audit.page()]) == 6


@pytest.mark.parametrize("number", [1, 3, 6])
def test_an_entry_edited_with_its_digest_is_found(state: State, path: Path, number: int) -> None:
    fill(state)
    row = stored(path, number) | {"target": "something else"}
    told = tampered(state, path, forge(path, row))
    expected = (
        "Entry 6 is not the one that was written last" if number == 6 else f"Entry {number + 1} does not continue"
    )
    assert told.startswith(expected)


def test_a_deleted_entry_is_found(state: State, path: Path) -> None:
    fill(state)
    assert tampered(state, path, "DELETE FROM audit WHERE id = 3") == "Entry 3 is missing: deleted."
    told = tampered(state, path, "DELETE FROM audit WHERE id IN (1, 2)")
    assert told == "Entries 1 to 3 are missing: deleted."


@pytest.mark.parametrize("also", ["none", "head", "sequence"])
def test_a_deleted_end_is_found_also_after_more_was_added(state: State, path: Path, also: str) -> None:
    fill(state)
    before = stored(path, 4)["digest"]
    more = {
        "none": [],
        "head": [f"UPDATE audit_head SET id = 4, digest = '{before}'"],
        "sequence": ["UPDATE sqlite_sequence SET seq = 4 WHERE name = 'audit'"],
    }[also]
    told = tampered(state, path, "DELETE FROM audit WHERE id > 4", *more)
    assert told == "Entries 5 to 6 are missing: deleted."
    fill(state, 1)
    assert state.audit.page(1)[0].id == 7
    assert " ".join(state.audit.verify().problems) == told


def test_a_log_emptied_or_without_its_head_is_found(state: State, path: Path) -> None:
    fill(state)
    assert "note of the last entry is missing" in tampered(state, path, "DELETE FROM audit_head")
    assert "Entries 1 to 6 are missing" in tampered(state, path, "DELETE FROM audit")


def test_entries_that_changed_places_are_found(state: State, path: Path) -> None:
    fill(state)
    told = tampered(
        state,
        path,
        "UPDATE audit SET id = 99 WHERE id = 2",
        "UPDATE audit SET id = 2 WHERE id = 5",
        "UPDATE audit SET id = 5 WHERE id = 99",
    )
    assert told == "Entry 2 was written as entry 5: reordered. Entry 5 was written as entry 2: reordered."


def test_an_inserted_entry_is_found(state: State, path: Path) -> None:
    fill(state)
    last = stored(path, 6)
    behind = forge(path, last | {"id": 7, "previous": last["digest"], "target": "forged"})
    assert tampered(state, path, behind) == "Entry 7 is behind the last one that was written: inserted."


def test_an_entry_pushed_in_between_is_found(state: State, path: Path) -> None:
    fill(state)
    third = stored(path, 3)
    told = tampered(
        state,
        path,
        "UPDATE audit SET id = id + 100 WHERE id > 3",
        "UPDATE audit SET id = id - 99 WHERE id > 100",
        forge(path, third | {"id": 4, "previous": third["digest"], "target": "forged"}),
    )
    assert "Entry 4 is none of those that were written: inserted." in told
    assert "Entry 5 was written as entry 4: reordered." in told
    assert "Entry 7 is behind the last one that was written: inserted." in told


def test_a_log_scrawled_all_over_is_told_in_few_words(state: State, path: Path) -> None:
    fill(state, 400)
    started = time.monotonic()
    told = tampered(state, path, "UPDATE audit SET actor = 'nobody' WHERE id BETWEEN 10 AND 390")
    assert told == "Entries 10 to 390 are not what was written: edited."
    assert time.monotonic() - started < 5


HOSTILE = [
    "\udce9\udcff",
    "a\0b",
    "x" * 10_000,
    "\udce9" * 10_000,
    "\x1b[2J\n'); DROP TABLE audit;--",
    "",
    "\U0001f480",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_are_kept_short_and_break_nothing(state: State, text: str) -> None:
    details = {"name": text, text: [text, {"deep": text}], "many": [text] * 50}
    state.audit.append(text, None, "api", text, text, "refused", details)
    fill(state, 1)
    assert state.audit.verify().problems == ()
    entry = state.audit.page(2)[1]
    for kept in (entry.actor, entry.action, entry.target):
        assert len(kept) <= 1_000
        assert "\0" not in kept
    # Answers are UTF-8, and must stay small.
    assert len(json.dumps(entry.to_json(), ensure_ascii=False).encode()) < 60_000
    if text == "x" * 10_000:
        assert entry.target == "x" * 1_000


def test_noting_keeps_how_it_ended(state: State) -> None:
    with state.audit.noting(ADMIN, "pin", "b1") as details:
        details["kept"] = True
    with pytest.raises(BusyError), state.audit.noting(ADMIN, "delete", "b2"):
        raise BusyError("Another run is at work.")
    with pytest.raises(StorageError), state.audit.noting(ADMIN, "delete", "b3"):
        raise StorageError("The disk is gone.")
    with pytest.raises(KeyboardInterrupt), state.audit.noting(ADMIN, "restore", "b4"):
        raise KeyboardInterrupt
    told = [(entry.action, entry.target, entry.outcome, entry.details) for entry in reversed(state.audit.page())]
    assert told == [
        ("pin", "b1", "ok", {"kept": True}),
        ("delete", "b2", "refused", {"code": "busy"}),
        ("delete", "b3", "failed", {"code": "storage"}),
        ("restore", "b4", "failed", {}),
    ]


def test_the_local_actor_is_the_systems_user_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    actor = local_actor()
    assert actor.name not in ("somebody-else", "")
    assert (actor.role, actor.origin) == ("admin", "cli")


def appending(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    code = (
        "import sys\nfrom pathlib import Path\nfrom resurgam.catalog.state import State\n"
        f"with State.open(Path({str(path)!r})) as state:\n"
        f"    for number in range({count}):\n"
        f"        print(state.audit.append({name!r}, 'admin', 'cli', 'delete', str(number), 'ok'), flush=True)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_eight_processes_append_one_chain(path: Path) -> None:
    State.open(path).close()
    writers = [appending(path, name, 25) for name in "abcdefgh"]
    assert [writer.wait(60) for writer in writers] == [0] * 8
    with State.open(path) as state:
        check = state.audit.verify()
        assert (check.entries, check.problems) == (200, ())
        assert {entry.actor for entry in state.audit.page(200)} == set("abcdefgh")


def test_a_kill_while_appending_leaves_a_whole_chain_with_all_that_was_answered(path: Path) -> None:
    State.open(path).close()
    answered = 0
    for delay in (0.01, 0.05, 0.09):
        writer = appending(path, f"seed{SEED}", 100_000)
        assert writer.stdout is not None
        answered = int(writer.stdout.readline())
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split("\n")[:-1]
        writer.wait()
        answered = max([answered, *map(int, rest)])
        with State.open(path) as state:
            check = state.audit.verify()
            assert check.problems == ()
            assert answered <= check.entries <= answered + 1
    assert answered > 3


def test_twenty_thousand_entries_are_read_in_little_time(state: State) -> None:
    fill(state, 3)
    rows, previous = [], state.audit.page(1)[0].digest
    with state._access.write() as connection:
        for number in range(4, 20_001):
            row = {
                "id": number,
                "at_us": number,
                **dict.fromkeys(("actor", "role", "origin", "action", "target", "outcome"), "x"),
                "details": "{}",
                "previous": previous,
            }
            row["digest"] = previous = digest_of(row)
            rows.append(tuple(row.values()))
        marks = ", ".join("?" * 11)
        connection.executemany(f"INSERT INTO audit VALUES ({marks})", rows)
        connection.execute("UPDATE audit_head SET id = 20000, digest = ?", (previous,))
    started = time.monotonic()
    check = AuditLog(state._access).verify()
    assert (check.entries, check.problems) == (20_000, ())
    assert time.monotonic() - started < 5

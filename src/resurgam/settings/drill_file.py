"""drill.toml: what a restored copy is asked, besides what every drill checks.

    [[sql]]
    query = "SELECT count(*) FROM reports"
    between = [1, 1000000]                # or: expect = 42; without either the answer must be true

    [[references]]
    column = "reports.attachment"         # or schema.table.column; what is not null must be a file
    files = "uploads"                     # a tree of the backup, or a folder in one
    strip = "/media/"                     # what the values begin with and the paths do not

    [[command]]
    run = ["./smoke-test.sh", "--quick"]  # must end with 0

    [[http]]
    start = ["./run-app.sh"]              # optional: runs while the URL is asked, and is ended then
    url = "http://127.0.0.1:8123/healthz"
    status = 200

Each may have a `name` and a `timeout` (as `90s`; 60 s unless given). The file is read when a drill begins. It names
programs to run, so it is not read if another user (but root) owns it or others can write to it.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resurgam.errors import SettingsError
from resurgam.settings.layers import distrust
from resurgam.settings.parse import duration

_TIMEOUT = 60.0
_KEYS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    # kind: needed, allowed besides
    "sql": (frozenset({"query"}), frozenset({"expect", "between"})),
    "references": (frozenset({"column", "files"}), frozenset({"strip"})),
    "command": (frozenset({"run"}), frozenset()),
    "http": (frozenset({"url"}), frozenset({"status", "start"})),
}
_COLUMN = re.compile(r"(?:([^.]+)\.)?([^.]+)\.([^.]+)")


@dataclass(frozen=True, slots=True)
class SqlAssertion:
    """The one value that the query answers must equal `expect`, or lie between the two, both included."""

    name: str
    timeout: float
    query: str
    expect: bool | int | float | str = True
    between: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class References:
    """Each value of the column that is not null, without `strip`, must be a file below `files`."""

    name: str
    timeout: float
    schema: str
    table: str
    column: str
    files: str
    strip: str = ""


@dataclass(frozen=True, slots=True)
class CommandAssertion:
    """The program must end with 0."""

    name: str
    timeout: float
    run: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HttpAssertion:
    """The URL must answer with that status within the time; `start` runs meanwhile, if it names a program."""

    name: str
    timeout: float
    url: str
    status: int = 200
    start: tuple[str, ...] = ()


Assertion = SqlAssertion | References | CommandAssertion | HttpAssertion


def read_drill_file(path: Path) -> tuple[Assertion, ...]:
    """The assertions in the file's order, kind by kind. SettingsError names everything that is wrong."""
    try:
        with path.open("rb") as file:
            doubt = distrust(os.fstat(file.fileno()))
            if doubt is not None:
                raise SettingsError(
                    f"DRILL_FILE {path} was not read: {doubt}.", "Its assertions are part of every drill."
                )
            table = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"DRILL_FILE {path} can not be read: {error.strerror}.", "Correct DRILL_FILE.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"DRILL_FILE {path} is not valid TOML: {error}.", "Correct the file.") from None
    problems: list[str] = []
    found = tuple(_assertions(table, problems))
    if problems:
        raise SettingsError(
            f"DRILL_FILE {path} is wrong: {' '.join(problems)}", "docs/user-guide.md describes it, under Practise."
        )
    return found


def _assertions(table: dict[str, Any], problems: list[str]) -> Iterator[Assertion]:
    for kind, entries in table.items():
        if kind not in _KEYS:
            problems.append(f"[[{kind}]] is not one of {', '.join(_KEYS)}.")
            continue
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            problems.append(f"{kind} must be written as [[{kind}]].")
            continue
        needed, more = _KEYS[kind]
        for number, entry in enumerate(entries, start=1):
            where = f"[[{kind}]] number {number}"
            wrong = sorted((needed - entry.keys()) | (entry.keys() - needed - more - {"name", "timeout"}))
            if wrong:
                problems.append(f"{where} lacks, or does not know, {', '.join(wrong)}.")
                continue
            try:
                yield _assertion(kind, entry)
            except ValueError as error:
                problems.append(f"{where} {error}.")


def _assertion(kind: str, entry: dict[str, Any]) -> Assertion:
    limit = duration(str(entry["timeout"])) if "timeout" in entry else _TIMEOUT
    timeout = _TIMEOUT if limit is None else limit
    if kind == "sql":
        query = _text(entry, "query")
        between = entry.get("between")
        if between is not None and "expect" in entry:
            raise ValueError("has both expect and between")
        if between is not None and not _range(between):
            raise ValueError("must have between = [LEAST, MOST]")
        expect = entry.get("expect", True)
        if not isinstance(expect, (bool, int, float, str)):
            raise ValueError("must expect a boolean, a number or a text")
        low_high = None if between is None else (between[0], between[1])
        return SqlAssertion(_name(entry, query), timeout, query, expect, low_high)
    if kind == "references":
        column = _text(entry, "column")
        match = _COLUMN.fullmatch(column)
        if match is None:
            raise ValueError("must have column = TABLE.COLUMN or SCHEMA.TABLE.COLUMN")
        files = _text(entry, "files").strip("/")
        name = _name(entry, f"{column} in {files}")
        strip = _text(entry, "strip") if "strip" in entry else ""
        return References(name, timeout, match[1] or "", match[2], match[3], files, strip)
    if kind == "command":
        run = _words(entry, "run")
        return CommandAssertion(_name(entry, " ".join(run)), timeout, run)
    url, status = _text(entry, "url"), entry.get("status", 200)
    if re.fullmatch(r"https?://[^\s/]+\S*", url) is None:
        raise ValueError("must have an http or https url")
    if type(status) is not int or not 100 <= status <= 599:
        raise ValueError("must have a status from 100 to 599")
    return HttpAssertion(_name(entry, url), timeout, url, status, _words(entry, "start") if "start" in entry else ())


def _range(given: Any) -> bool:
    numbers = isinstance(given, list) and len(given) == 2 and all(type(one) in (int, float) for one in given)
    return numbers and given[0] <= given[1]


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry[key]
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"must have a text as {key}")
    return value


def _words(entry: dict[str, Any], key: str) -> tuple[str, ...]:
    value = entry[key]
    if not isinstance(value, list) or not value or not all(isinstance(w, str) and "\0" not in w for w in value):
        raise ValueError(f'must have {key} = ["PROGRAM", "ARGUMENT", …]')
    return tuple(value)


def _name(entry: dict[str, Any], default: str) -> str:
    return " ".join(str(entry.get("name") or default).split())[:200]

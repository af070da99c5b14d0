"""What a restore would change in the config files: unified diffs, bounded, with passwords masked."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from resurgam.archive.entry import name_text
from resurgam.archive.opening import Archive
from resurgam.counting import count_text
from resurgam.sources.passwords import password_lines

_LARGEST = 256 << 10
_LINES = 200
_COLUMNS = 200
_CONFIG = b"config/"
_HIDDEN = "(a line that seems to hold a password)"


def config_diffs(archive: Archive, names: tuple[str, ...], app_dir: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """For each config file that would change, the lines of its diff from the live file to the backup's.

    A file that is not there now, is no text, or is large, has one line that says so.
    """
    wanted = {_CONFIG + name.encode("utf-8", "surrogateescape") for name in names}
    found: list[tuple[str, tuple[str, ...]]] = []
    for entry, blocks in archive.contents(lambda entry: entry.path in wanted):
        name = name_text(entry.path.removeprefix(_CONFIG))
        if entry.size > _LARGEST:
            found.append((name, (f"(too long to compare here: {entry.size:,} bytes)",)))
            continue
        lines = tuple(_diff(name, b"".join(blocks), app_dir / name))
        if lines:
            found.append((name, lines))
    return tuple(sorted(found))


def _diff(name: str, new: bytes, live: Path) -> Iterator[str]:
    try:
        if live.stat().st_size > _LARGEST:
            yield f"(too long to compare here: {live.stat().st_size:,} bytes now)"
            return
        old = live.read_bytes()
    except FileNotFoundError:
        yield f"(not there now; the backup's has {len(new):,} bytes)"
        return
    except OSError as error:
        yield f"(the present one can't be read: {error.strerror})"
        return
    if old == new:
        return
    try:
        texts = old.decode("utf-8"), new.decode("utf-8")
    except UnicodeDecodeError:
        yield f"(no text: {len(old):,} bytes now, {len(new):,} in the backup)"
        return
    before, after = (_shown(name, text) for text in texts)
    # Line numbers would say where a masked line changed, which unified diffs do anyway.
    lines = list(difflib.unified_diff(before, after, "now", "backup", lineterm="", n=2))
    if not lines:
        yield "(only lines that seem to hold passwords, or line ends, differ)"
    yield from (line[:_COLUMNS] for line in lines[:_LINES])
    if len(lines) > _LINES:
        yield f"({count_text(len(lines) - _LINES, 'more line')})"


def _shown(name: str, text: str) -> list[str]:
    secret = set(password_lines(name, text))
    return [_HIDDEN if number in secret else line for number, line in enumerate(text.splitlines(), 1)]

"""What is left out of file trees: the user's patterns, and always what is Resurgam's own.

Patterns are a subset of gitignore's, against the path `TREE/…` below the backup's `files/`:
- without a slash (`*.tmp`) a pattern matches the last part of a path, at any depth;
- with a slash in front or inside (`/uploads/tmp/**`, `uploads/tmp`) it matches the whole path;
- a slash at the end (`cache/`) matches folders only;
- `*` and `?` match within one part, `[a-z]` and `[!a-z]` one character of a set, `**` any number of parts;
- a backslash takes the next character as it is.
What is below an excluded folder is excluded with it. There is no `!` to take something back in: it is refused.

Always left out: the backup folder and other folders of our own (by device and inode, so that a bind mount or a link
of another name is found too), files of secrets likewise, names that start with `.resurgam-` (staging, what a
restore replaced) and hidden names that end in `.partial` (files being written). Only hidden ones: a user's
`scan.partial` is the user's data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from resurgam.errors import SettingsError

OWN_PREFIX = ".resurgam-"


@dataclass(frozen=True, slots=True)
class Excludes:
    """What the settings leave out; `own_folders` and `secrets` may be absent from the disk."""

    patterns: tuple[str, ...] = ()
    own_folders: tuple[Path, ...] = ()
    secrets: tuple[Path, ...] = ()


class Matcher:
    """Excludes, compiled. Raises SettingsError naming a pattern that is not understood."""

    def __init__(self, excludes: Excludes) -> None:
        named: list[str] = []
        named_folders: list[str] = []
        rooted: list[str] = []
        rooted_folders: list[str] = []
        for pattern in excludes.patterns:
            text = pattern.rstrip("/")
            if not _understood(pattern):
                raise SettingsError(
                    f"The exclude pattern {pattern!r} is not understood.",
                    "Use names and paths with *, ?, [..] and **; taking back with ! is not possible.",
                )
            only_folders = text != pattern
            if "/" in text:
                (rooted_folders if only_folders else rooted).append(translate(text.lstrip("/")))
            else:
                (named_folders if only_folders else named).append(translate(text))
        self._named = _union(named)
        self._named_folders = _union(named_folders)
        self._rooted = _union(rooted)
        self._rooted_folders = _union(rooted_folders)
        self._plain = not excludes.patterns
        self._folders = identities(excludes.own_folders)
        self._secrets = identities(excludes.secrets)

    @property
    def only_hidden(self) -> bool:
        """Whether nothing but hidden names (ours) can be left out for its name: there are no patterns."""
        return self._plain

    def name_excluded(self, name: str, path: str, folder: bool) -> bool:
        """Whether `name`, at `path` below `files/`, is left out for its name."""
        if name[0] == "." and (name.startswith(OWN_PREFIX) or name.endswith(".partial")):
            return True
        if self._plain:
            return False
        return (
            _matches(self._named, name)
            or _matches(self._rooted, path)
            or (folder and (_matches(self._named_folders, name) or _matches(self._rooted_folders, path)))
        )

    def own_folder(self, status: os.stat_result) -> bool:
        """Whether a folder is one of Resurgam's own."""
        return (status.st_dev, status.st_ino) in self._folders

    def secret(self, status: os.stat_result) -> bool:
        """Whether a file is one that holds a secret of ours."""
        return (status.st_dev, status.st_ino) in self._secrets


def identities(paths: Iterable[Path]) -> frozenset[tuple[int, int]]:
    """Device and inode of those paths that are there."""
    found = set()
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def _understood(pattern: str) -> bool:
    if not pattern.strip("/") or pattern.startswith("!") or "\0" in pattern:
        return False
    try:
        re.compile(translate(pattern))
    except re.error:  # a set that runs backwards, [z-a]
        return False
    return True


def _union(expressions: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(expressions), re.DOTALL) if expressions else None


def _matches(expression: re.Pattern[str] | None, text: str) -> bool:
    return expression is not None and expression.fullmatch(text) is not None


def translate(pattern: str) -> str:
    """A pattern as a regular expression for fullmatch."""
    parts = pattern.split("/")
    out = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            # `a/**` is all that is below a and not a itself, so at least one character.
            out += ".+" if last else "(?:[^/]+/)*"
        else:
            out += _part(part) + ("" if last else "/")
    return f"(?:{out})"


def _part(part: str) -> str:
    out, position = "", 0
    while position < len(part):
        char = part[position]
        position += 1
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "\\" and position < len(part):
            out += re.escape(part[position])
            position += 1
        elif char == "[" and (end := part.find("]", position + 1 + (part[position : position + 1] in ("!", "^")))) > 0:
            out += _character_set(part[position:end])
            position = end + 1
        else:
            out += re.escape(char)
    return out


def _character_set(members: str) -> str:
    negated = members[0] in "!^"
    members = members[1:] if negated else members
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", members)
    # Without the look-ahead a negated set would match the slash between two parts.
    return f"(?!/)[{'^' if negated else ''}{escaped}]"

"""A disk as numbers: folders with names, files with bytes, and what changes them (the rules are in crashes.py)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_FOLDER_NAME = re.compile(r"[a-z0-9]+")
_FILE_NAME = re.compile(r"[a-z0-9]+(?:\.[0-9]+)?")  # the last part of a KEY
ROOT = 0


@dataclass(frozen=True, slots=True)
class Rename:
    """One change of one folder: names that it gets, or loses (None). `new_folder`: what is named is a new folder."""

    folder: int
    changes: tuple[tuple[str, int | None], ...]
    new_folder: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    offset: int
    data: bytes

    def __str__(self) -> str:
        return f"write of {len(self.data)} bytes at {self.offset} to {self.file}"


@dataclass(frozen=True, slots=True)
class Sync:
    """The fsync of a file or a folder."""

    inode: int


Operation = Rename | Write | Sync


@dataclass(frozen=True, slots=True)
class Disk:
    """`folders`: the names in each; `files`: the bytes of each; `parents`: of each folder.

    Never changed: each change makes another disk that shares what stayed. `_flat` remembers what lies below a folder.
    """

    folders: Mapping[int, Mapping[str, int]]
    files: Mapping[int, bytes]
    parents: Mapping[int, int]
    _flat: dict[int, dict[str, int]] = field(default_factory=dict)

    @staticmethod
    def of_folder(root: Path) -> Disk:
        folders: dict[int, dict[str, int]] = {ROOT: {}}
        files: dict[int, bytes] = {}
        parents: dict[int, int] = {}
        numbers = {os.fspath(root): ROOT}
        for where, below, names in os.walk(root):
            here = numbers[where]
            for name in below:
                number = numbers[os.path.join(where, name)] = len(folders) + len(files)
                folders[here][name], folders[number], parents[number] = number, {}, here
            for name in names:
                number = len(folders) + len(files)
                folders[here][name], files[number] = number, Path(where, name).read_bytes()
        return Disk(folders, files, parents)

    def paths(self, root: str, folder: int = ROOT) -> Iterator[tuple[str, int]]:
        """Everything from `folder` on, as paths."""
        yield root, folder
        for name, inode in self.folders[folder].items():
            if inode in self.folders:
                yield from self.paths(os.path.join(root, name), inode)
            else:
                yield os.path.join(root, name), inode

    def changed(
        self, folders: Mapping[int, Mapping[str, int]], files: Mapping[int, bytes], made: Mapping[int, int]
    ) -> Disk:
        """This disk with these folders and files in place of its own; `made`: the parents of new folders."""
        stale = set(made)
        parents = {**self.parents, **made} if made else self.parents
        for inode in folders:
            at: int | None = inode
            while at is not None and at not in stale:
                stale.add(at)
                at = parents.get(at)
        for inode in made:
            at = parents[inode]
            while at is not None and at not in stale:
                stale.add(at)
                at = parents.get(at)
        return Disk(
            {**{inode: {} for inode in made}, **self.folders, **folders} if folders or made else self.folders,
            {**self.files, **files} if files else self.files,
            parents,
            {inode: flat for inode, flat in self._flat.items() if inode not in stale},
        )

    def below(self, folder: int) -> dict[str, int]:
        """The files below a folder that have names of objects, by their key from there."""
        flat = self._flat.get(folder)
        if flat is None:
            flat = {}
            for name, inode in self.folders[folder].items():
                if inode in self.folders:
                    if _FOLDER_NAME.fullmatch(name):
                        flat.update({f"{name}/{key}": number for key, number in self.below(inode).items()})
                elif _FILE_NAME.fullmatch(name):
                    flat[name] = inode
            self._flat[folder] = flat
        return flat

    def find(self, parts: tuple[str, ...]) -> int | None:
        """The folder of that path; None if it is not there."""
        at: int | None = ROOT
        for part in parts:
            at = None if at is None else self.folders.get(at, {}).get(part)
        return at if at in self.folders else None

    def write_to(self, target: Path, folder: int = ROOT) -> None:
        """Everything below `folder`, as files in the empty folder `target`."""
        for name, inode in self.folders[folder].items():
            if inode in self.folders:
                (target / name).mkdir(mode=0o700)
                self.write_to(target / name, inode)
            else:
                (target / name).write_bytes(self.files.get(inode, b""))

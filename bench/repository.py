"""The repository against restic and Borg: first backup, repeat, change, verify, restore of files, a month of days.

All programs see the same database and the same files, one after the other, in an order that turns each time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import measure, report
from bench.lab import DATABASE, Lab
from bench.rivals import Ours, Rival, rivals

_EMPTY = "empty"
_DAYS, _KEPT = 30, 10
# One row in a hundred, all over the table; and half as many new ones, where VACUUM has made room or at the end.
_UPDATE = "UPDATE reports SET findings = findings || ' Seen again on day {day}.' WHERE id % 100 = {day}"
_INSERT = """INSERT INTO reports (accession, patient_name, modality, findings, impression, author_id)
    SELECT 'ZZ' || lpad(({day} * 1000000 + row_number() OVER ())::text, 8, '0'), patient_name, modality,
           md5(id::text) || ' ' || findings, impression, author_id FROM reports WHERE id % 200 = {day}"""

_Times = dict[str, list[measure.Run]]


def run(lab: Lab, pairs: int) -> list[report.Line]:
    """The dump and the files by all programs, `pairs` times each."""
    ours, others = _open(lab, lab.app)
    everyone: list[Rival] = [ours, *others]
    lines = _dumps(lab, ours, everyone, pairs)
    lines += _changes(lab, everyone)
    restored = lab.work / "restored"
    lines += _files(ours, everyone, pairs, restored)
    shutil.rmtree(restored)
    shutil.rmtree(lab.work / "rivals")
    return lines


def days(lab: Lab) -> list[report.Line]:
    """A month of daily backups, 1 % of the rows changed each day, and a prune from 30 to 10."""
    ours, others = _open(lab, lab.app)
    everyone: list[Rival] = [ours, *others]
    for one in everyone:
        one.make()
    for day in range(_DAYS):
        if day:
            lab.sql(_UPDATE.format(day=day), "VACUUM reports", "CHECKPOINT", database=DATABASE)
        taken = [(one.name, one.dump().seconds) for one in everyone]
        print(f"  day {day + 1}: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in taken), flush=True)
    before = {one.name: one.size() for one in everyone}
    lines = [_bytes(f"{_DAYS} days: size / {one.name}'s", before["ours"], before[one.name]) for one in others]
    if others:
        smallest = min(before[one.name] for one in others)
        lines.append(_bytes(f"{_DAYS} days: size / the smaller of them", before["ours"], smallest, 0.6))
    pruned = {one.name: one.prune(_KEPT) for one in everyone}
    for one in others:
        target = 1.0 if one.name == "restic" else None
        times = [pruned["ours"].seconds], [pruned[one.name].seconds]
        lines.append(report.ratio(f"prune {_DAYS} to {_KEPT} / {one.name}", *times, target))
        lines.append(_bytes(f"size after it / {one.name}'s", ours.size(), one.size()))
    lines.append(report.memory("prune, peak memory of our processes", [pruned["ours"].memory], 256))
    shutil.rmtree(lab.work / "rivals")
    return lines


def _open(lab: Lab, files: Path) -> tuple[Ours, list[Rival]]:
    lab.sql(f"DROP DATABASE IF EXISTS {_EMPTY}", f"CREATE DATABASE {_EMPTY} TEMPLATE template0")
    return rivals(lab, lab.work / "rivals", files, _EMPTY)


def _dumps(lab: Lab, ours: Ours, everyone: Sequence[Rival], pairs: int) -> list[report.Line]:
    """First backup into a new repository, and the same dump again; each beside a floor of its own."""
    first: _Times = {}
    again: _Times = {}
    peaks: list[int] = []
    for number in range(pairs):
        steps: list[Callable[[], None]] = [lambda: _note(first, "floor", _floor(lab))]
        steps += [lambda one=one: _first_dump(lab, one, first, peaks) for one in everyone]  # type: ignore[misc]
        _in_turn(steps, number)
        steps = [lambda: _note(again, "floor", _floor(lab))]
        steps += [lambda one=one: _note(again, one.name, one.dump()) for one in everyone]  # type: ignore[misc]
        _in_turn(steps, number)
        print(f"  dump, pair {number + 1}: first {_said(first)}; again {_said(again)}", flush=True)
    lines = [report.ratio("first backup of the dump / pg_dump to null", *_pair(first), 1.6)]
    lines += _against("first backup of the dump", first, everyone, 0.5)
    lines.append(report.ratio("repeat of the dump / pg_dump to null", *_pair(again), 1.25))
    lines += _against("repeat of the dump", again, everyone, None)
    lines.append(report.memory("first backup, peak memory of our processes", peaks, 256))
    return lines


def _first_dump(lab: Lab, one: Rival, times: _Times, peaks: list[int]) -> None:
    one.make()
    lab.sql("CHECKPOINT")
    done = one.dump()
    _note(times, one.name, done)
    if one.name == "ours":
        peaks.append(done.memory)


def _changes(lab: Lab, everyone: Sequence[Rival]) -> list[report.Line]:
    """What a backup adds after 1 % of the rows were updated and 0.5 % inserted all over."""
    before = {one.name: one.size() for one in everyone}
    statements = (_UPDATE.format(day=1), "VACUUM reports", _INSERT.format(day=1), "VACUUM reports", "CHECKPOINT")
    lab.sql(*statements, database=DATABASE)
    times: _Times = {}
    for one in everyone:
        _note(times, one.name, one.dump())
    added = {one.name: one.size() - before[one.name] for one in everyone}
    print(f"  changed dump: {_said(times)}", flush=True)
    return [
        _bytes(f"1 % updated, 0.5 % inserted: added / {name}", added["ours"], size, 0.6 if name == "restic" else None)
        for name, size in added.items()
        if name != "ours"
    ]


def _files(ours: Ours, everyone: Sequence[Rival], pairs: int, place: Path) -> list[report.Line]:
    """First backup of the files, the same again, a full verification, and a restore of them all.

    Each restore gets a folder of its own below `place`, and none is removed before the end: ext4 passes over inodes
    that were freed a short while ago, and whoever makes files then pays for it (measured: 9 s instead of 3).
    """
    named = ("first backup of files", "unchanged files", "full verification", "restore of files")
    limits = (1 / 3, 0.5, 0.5, 0.5)
    found: list[_Times] = [{} for _ in named]
    for number in range(pairs):
        for step, times in enumerate(found):
            steps = [
                lambda one=one, step=step, times=times, target=place / f"{number}-{one.name}": _note(
                    times, one.name, _file_step(one, step, target)
                )
                for one in everyone
            ]
            _in_turn(steps, number)
        print(f"  files, pair {number + 1}: " + "; ".join(map(_said, found)), flush=True)
    lines = []
    for name, times, limit in zip(named, found, limits, strict=True):
        lines += _against(name, times, everyone, limit)
    return lines


def _file_step(one: Rival, step: int, target: Path) -> measure.Run:
    if step == 0:
        one.make()
        return one.files()
    if step == 1:
        return one.files()
    if step == 2:
        return one.verify()
    target.mkdir(parents=True)
    return one.restore_files(target)


def _floor(lab: Lab) -> measure.Run:
    lab.sql("CHECKPOINT")
    return measure.run(["pg_dump", "-d", DATABASE, "-f", "/dev/null"], lab.environment())


def _in_turn(steps: Sequence[Callable[[], None]], number: int) -> None:
    """Who comes first turns, so that nobody always meets what another one left in caches."""
    at = number % len(steps)
    for step in (*steps[at:], *steps[:at]):
        step()


def _note(times: _Times, name: str, done: measure.Run) -> None:
    times.setdefault(name, []).append(done)


def _against(what: str, times: _Times, everyone: Sequence[Rival], limit: float | None) -> list[report.Line]:
    """Ours to each; the limit is for restic."""
    names = [one.name for one in everyone if one.name != "ours"]
    lines = [
        report.ratio(
            f"{what} / {name}", _seconds(times, "ours"), _seconds(times, name), limit if name == "restic" else None
        )
        for name in names
    ]
    ours = _processor(times, "ours")
    return lines + [report.ratio(f"{what}, processor / {name}", ours, _processor(times, name)) for name in names]


def _bytes(what: str, ours: int, other: int, target: float | None = None) -> report.Line:
    return report.Line(what, f"{ours / 1e6:.1f} MB", f"{other / 1e6:.1f} MB", ours / max(1, other), "", target)


def _seconds(times: _Times, name: str) -> list[float]:
    return [done.seconds for done in times[name]]


def _processor(times: _Times, name: str) -> list[float]:
    return [done.processor for done in times[name]]


def _pair(times: _Times) -> tuple[list[float], list[float]]:
    return _seconds(times, "ours"), _seconds(times, "floor")


def _said(times: _Times) -> str:
    """The latest of each: wall time, and the processor's."""
    return ", ".join(f"{name} {found[-1].seconds:.2f} s ({found[-1].processor:.2f})" for name, found in times.items())

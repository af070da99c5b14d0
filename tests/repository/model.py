"""Every interleaving of a small model of commit and prune, as the code and docs/ordering.md (44 to 55) have them.

One chunk, which every backup needs. It lies in pack 0, of a committed backup that is deleted at some moment. Backups
refer to a pack that they find, or write their own; prunes put a tombstone on any packs whatsoever (no policy is
trusted); a sweeper gives up manifests that have no outcome. Each call of the store is a step of its own, a listing of
several kinds of objects several steps. Whoever takes no further step has crashed, or sleeps: each prefix of each
interleaving is a state, so that crashes need no steps.

`VARIANTS` are protocols that are known to lose data: the search must find a loss in each, or it proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

VARIANTS = {
    "look first": "the writer lists packs before its manifest, and not after (against 45)",
    "revival": "a writer whose pack has a tombstone takes the tombstone away (against 53)",
    "old manifests": "the prune decides by manifests that were listed before the tombstones (against 54)",
    "late tombstones": "the prune acts on tombstones that it did not note before it listed manifests (against 55)",
    "replaced outcome": "outcomes are not create-only (against 46)",
    "packs first": "the writer lists packs before tombstones (against 45)",
    "tombstones first": "the prune deletes the tombstone before the pack (against 55)",
}
OPEN, COMMITTED, ABANDONED = 0, 1, 2


class Backup(NamedTuple):
    """`ref`: the pack it refers to, -1 for none; `own`: packs it wrote; `seen`: what it listed first, as bits."""

    at: str = "begin"
    ref: int = -1
    own: int = 0
    seen: int = 0


class Prune(NamedTuple):
    """`doomed`: the tombstones that were noted; `live`: whether a manifest needs the chunk; `seen`: what it listed
    last; `todo`: packs that are still to be deleted."""

    at: str = "begin"
    seen: int = 0
    doomed: int = 0
    live: bool = False
    todo: int = 0


class State(NamedTuple):
    """Bits: `packs` that are there, `tombstones`, `doomed`: packs that ever had one, `manifests`. Outcomes by backup.
    `kept`: whether the old backup is there; `sweeping`: the manifest about to be given up, -1 for none."""

    packs: int
    tombstones: int
    doomed: int
    manifests: int
    outcomes: tuple[int, ...]
    changed: bool
    kept: bool
    sweeping: int
    backups: tuple[Backup, ...]
    prunes: tuple[Prune, ...]


@dataclass(frozen=True)
class Found:
    """`loss`: the steps that lead to what must never be, and what that is; empty if nothing does."""

    states: int
    loss: tuple[str, ...]


def problem(state: State) -> str:
    """What must never be."""
    if not state.packs and (state.kept or COMMITTED in state.outcomes):
        return "a committed backup refers to a chunk that lies in no pack"
    if state.doomed & state.packs & ~state.tombstones:
        return "a pack lives that had a tombstone, and has none any more"
    return "an outcome changed" if state.changed else ""


def explore(backups: int, prunes: int, variant: str = "", limit: int = 10_000_000) -> Found:
    """All states, depth first, until one must never be."""
    state = State(1, 0, 0, 0, (OPEN,) * backups, False, True, -1, (Backup(),) * backups, (Prune(),) * prunes)
    seen = {state}
    labels: list[str] = []
    stack = [_steps(state, variant)]
    while stack:
        for label, following in stack[-1]:
            if following in seen:
                continue
            seen.add(following)
            if found := problem(following):
                return Found(len(seen), (*labels, label, found))
            assert len(seen) <= limit, "the model is larger than expected"
            labels.append(label)
            stack.append(_steps(following, variant))
            break
        else:
            stack.pop()
            if labels:
                labels.pop()
    return Found(len(seen), ())


def _steps(state: State, variant: str) -> Iterator[tuple[str, State]]:
    """All that may happen next."""
    for number, backup in enumerate(state.backups):
        for label, changed, after in _backup_steps(state, number, backup, variant):
            others = (*state.backups[:number], after, *state.backups[number + 1 :])
            yield f"backup {number} {label}", changed._replace(backups=others)
    for number, prune in enumerate(state.prunes):
        for label, changed, done in _prune_steps(state, number, prune, variant):
            pruned = (*state.prunes[:number], done, *state.prunes[number + 1 :])
            yield f"prune {number} {label}", changed._replace(prunes=pruned)
    if state.kept:
        yield "the old backup is deleted", state._replace(kept=False)
    if state.sweeping >= 0:
        swept = _decide(state, state.sweeping, ABANDONED, variant)
        yield f"the sweeper gives up manifest {state.sweeping}", swept._replace(sweeping=-1)
    else:
        for number, outcome in enumerate(state.outcomes):
            if state.manifests >> number & 1 and outcome == OPEN:
                yield f"the sweeper finds manifest {number}", state._replace(sweeping=number)


def _decide(state: State, number: int, outcome: int, variant: str) -> State:
    """The outcome, create-only."""
    there = state.outcomes[number]
    if there == outcome or (there != OPEN and variant != "replaced outcome"):
        return state
    outcomes = (*state.outcomes[:number], outcome, *state.outcomes[number + 1 :])
    return state._replace(outcomes=outcomes, changed=state.changed or there != OPEN)


def _bits(packs: int) -> list[int]:
    return [pack for pack in range(packs.bit_length()) if packs >> pack & 1]


def _backup_steps(state: State, number: int, backup: Backup, variant: str) -> Iterator[tuple[str, State, Backup]]:
    own = 1 + 2 * number + backup.own  # two packs for each, the second for a copy
    at = backup.at
    if at == "begin":
        following = "look" if variant == "look first" else "manifest"
        for pack in _bits(state.packs & ~state.tombstones):
            yield f"refers to pack {pack}", state, backup._replace(at=following, ref=pack)
        written = state._replace(packs=state.packs | 1 << own)
        yield f"writes pack {own}", written, backup._replace(at=following, ref=own, own=1)
    elif at == "manifest":
        put = state._replace(manifests=state.manifests | 1 << number)
        yield "puts its manifest", put, backup._replace(at="commit" if variant == "look first" else "look")
    elif at == "look":
        if variant == "packs first":
            yield "lists packs", state, backup._replace(at="look on", seen=state.packs)
        else:
            yield "lists tombstones", state, backup._replace(at="look on", seen=state.tombstones)
    elif at == "look on":
        first = variant == "packs first"
        packs, marked = (backup.seen, state.tombstones) if first else (state.packs, backup.seen)
        yield from _judged(state, backup._replace(seen=0), packs, marked, variant)
    elif at == "copy":
        if state.packs >> backup.ref & 1 and backup.own < 2:
            copied = state._replace(packs=state.packs | 1 << own)
            yield f"copies into pack {own}", copied, backup._replace(at="look", ref=own, own=backup.own + 1)
        else:
            yield "gives up", state, backup._replace(at="abandon", ref=-1, own=0)
    elif at in ("commit", "abandon"):
        decided = _decide(state, number, COMMITTED if at == "commit" else ABANDONED, variant)
        yield f"puts the outcome {at}", decided, Backup("end")


def _judged(state: State, backup: Backup, packs: int, marked: int, variant: str) -> Iterator[tuple[str, State, Backup]]:
    """The end of a look: what was listed decides at once, without a call of the store."""
    fine = packs & ~marked
    if fine >> backup.ref & 1:
        sure = backup._replace(ref=-1, own=0)
        yield "finds its pack", state, sure._replace(at="manifest" if variant == "look first" else "commit")
    elif variant == "revival" and packs >> backup.ref & 1:
        revived = state._replace(tombstones=state.tombstones & ~(1 << backup.ref))
        yield "revives its pack", revived, backup._replace(at="commit")
    elif fine:
        for pack in _bits(fine):
            yield f"refers to pack {pack} instead", state, backup._replace(at="look", ref=pack)
    elif packs:
        for pack in _bits(packs):
            yield f"reads pack {pack}", state, backup._replace(at="copy", ref=pack)
    else:
        yield "finds no pack", state, Backup("abandon")


def _prune_steps(state: State, number: int, prune: Prune, variant: str) -> Iterator[tuple[str, State, Prune]]:
    at = prune.at
    if at == "begin":
        if variant == "old manifests" and prune.todo == 0:
            yield "lists manifests", state, prune._replace(todo=1, live=_live(state, _abandoned(state)))
            return
        prune = prune._replace(todo=0)
        chosen = state.packs & ~state.tombstones
        while chosen:
            put = state._replace(tombstones=state.tombstones | chosen, doomed=state.doomed | chosen)
            yield f"puts tombstones of {_bits(chosen)}", put, prune._replace(at="note", doomed=chosen)
            chosen = (chosen - 1) & state.packs & ~state.tombstones
        if state.tombstones:
            yield "begins", state, prune._replace(at="note")
    elif at == "note":
        following = "tombstones 1" if variant == "old manifests" else "outcomes"
        yield "notes tombstones", state, prune._replace(at=following, doomed=prune.doomed | state.tombstones)
    elif at == "outcomes":
        yield "lists outcomes", state, prune._replace(at="manifests", seen=_abandoned(state))
    elif at == "manifests":
        yield "lists manifests", state, prune._replace(at="tombstones 1", live=_live(state, prune.seen), seen=0)
    elif at in ("tombstones 1", "tombstones 2"):
        if at == "tombstones 1" and not prune.live:  # there is nothing to copy
            prune = prune._replace(at="tombstones 2")
        yield "lists tombstones", state, prune._replace(at=f"packs {prune.at[-1]}", seen=state.tombstones)
    elif at == "packs 1":
        copies = not state.packs & ~prune.seen
        yield "lists packs", state, prune._replace(at="copy" if copies else "tombstones 2", seen=0)
    elif at == "copy":
        own = 1 + 2 * len(state.backups) + number
        copied = state._replace(packs=state.packs | 1 << own) if state.packs else state
        yield "copies what is live", copied, prune._replace(at="tombstones 2")
    elif at == "packs 2":
        yield from _decided(state, prune, variant)
    else:
        yield from _deletions(state, prune, variant)


def _abandoned(state: State) -> int:
    return sum(1 << number for number, outcome in enumerate(state.outcomes) if outcome == ABANDONED)


def _live(state: State, abandoned: int) -> bool:
    return state.kept or bool(state.manifests & ~abandoned)


def _decided(state: State, prune: Prune, variant: str) -> Iterator[tuple[str, State, Prune]]:
    doomed, marked = prune.doomed, prune.seen
    if variant == "late tombstones":
        doomed = marked
    going = doomed & state.packs
    if prune.live and not state.packs & ~marked:
        going = 0  # it lies in tombstoned packs only: all of them stay
    following = "tombstones" if variant == "tombstones first" else "delete"
    yield "lists packs", state, Prune(following, doomed=going | (doomed & ~state.packs), todo=going)


def _deletions(state: State, prune: Prune, variant: str) -> Iterator[tuple[str, State, Prune]]:
    """Packs one by one, then their tombstones."""
    if prune.at == "tombstones":
        done = state._replace(tombstones=state.tombstones & ~prune.doomed)
        yield "deletes tombstones", done, Prune("delete" if prune.todo else "end", todo=prune.todo)
    elif prune.todo:
        pack = prune.todo & -prune.todo
        left = prune._replace(todo=prune.todo & ~pack)
        yield f"deletes {_bits(pack)}", state._replace(packs=state.packs & ~pack), left
    else:
        yield "has deleted", state, Prune("end") if variant == "tombstones first" else prune._replace(at="tombstones")

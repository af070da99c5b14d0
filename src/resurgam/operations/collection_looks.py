"""What a repository's backups need, and what is not there although nobody removed it (docs/ordering.md, 54 and 57).

Others put and delete between one listing and the next, so that things seem to be missing. What is really lost is
missing each time one looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from resurgam.archive.entry import printable
from resurgam.clock import Clock
from resurgam.counting import count_text
from resurgam.errors import CollectionRefused, DamagedError, HostileError, ObjectMissing
from resurgam.operations.losses import refuse_losses
from resurgam.repository.index_usage import Usage, usage
from resurgam.repository.manifests import Manifest
from resurgam.repository.records import chunk_ids
from resurgam.repository.repository import Repository, Standing

_LOOKS = 4
_NAMED = 5


class Looks:
    """Looks at one repository, by listings that begin when asked. `remembered`: manifests that this machine has seen
    committed and not deleted."""

    def __init__(self, repository: Repository, remembered: frozenset[bytes], clock: Clock) -> None:
        self._repository, self._remembered, self._clock = repository, remembered, clock

    def refuse_losses(self) -> None:
        """CollectionRefused if something is lost."""
        for last in self._times():
            try:
                self._standing()
                return
            except CollectionRefused:
                if last:
                    raise

    def everything(self) -> tuple[Standing, Usage]:
        """All manifests, and what of the index they use. CollectionRefused; DamagedError if a backup needs what is not
        there, or if it can't be told what it needs."""
        for last in self._times():
            try:
                standing = self._standing()
                used = used_by(self._repository, standing)
                self._refuse_missing(standing, used)
                return standing, used
            except (CollectionRefused, DamagedError):
                if last:
                    raise
        raise AssertionError("there is a last time")

    def _times(self) -> Iterator[bool]:
        """Whether it is the last one."""
        for number in range(1, _LOOKS):
            yield False
            # What somebody changes now is over by then, and what he changed is seen.
            self._clock.sleep(self._repository.store.staleness + number / 4)
        yield True

    def _standing(self) -> Standing:
        """Manifests first, then packs: those of all that are committed are there then."""
        standing = self._repository.standing()
        self._repository.index.reload()
        refuse_losses(self._repository, standing, self._remembered)
        return standing

    def _refuse_missing(self, standing: Standing, used: Usage) -> None:
        missing = used.missing
        if missing and standing.undecided:
            # Who has not committed yet finds out himself, and copies what he can still have, or gives up (45).
            missing = usage(self._repository.index, _needed(self._repository, standing.committed, ())).missing
        if missing:
            raise _chunks_missing(self._repository, standing, len(missing))


def _chunks_missing(repository: Repository, standing: Standing, count: int) -> DamagedError:
    """Names the backups: a write-only host that was broken into can make one that lacks something, which is to be
    deleted then."""
    hurt = []
    for manifest in standing.committed:
        if usage(repository.index, _needed(repository, (manifest,), ())).missing:
            hurt.append(printable(repository.manifest(manifest).head.name.encode(errors="replace")))
    named = f" ({', '.join(sorted(hurt)[:_NAMED])}{' and others' if len(hurt) > _NAMED else ''})" if hurt else ""
    return DamagedError(
        f"{count_text(count, 'chunk')} of what backups need{named} can be had from no pack, so nothing was removed.",
        "Take a backup: what still exists is stored again. Then `resurgam delete` the backups that stay hurt, which "
        "`resurgam repair` names.",
    )


def used_by(repository: Repository, standing: Standing, doomed: Set[bytes] = frozenset()) -> Usage:
    """What of the index, as it stands, these manifests use, but for `doomed` ones. DamagedError where it can't be told
    what is needed."""
    committed = [manifest for manifest in standing.committed if manifest not in doomed]
    return usage(repository.index, _needed(repository, committed, standing.undecided))


def _needed(repository: Repository, committed: Iterable[bytes], undecided: Iterable[bytes]) -> Iterator[bytes]:
    """The ids of all chunks that the manifests need, joined in pieces. DamagedError if a list can't be read."""
    for manifest in committed:
        found = _manifest(repository, manifest)
        if found is None:
            continue
        try:
            yield from _content(repository, found)
        except DamagedError as error:
            raise DamagedError(
                f"What the backup {printable(found.head.name.encode(errors='replace'))} needs can't be told, so "
                f"nothing was removed: {error.message}",
                "The next backup mends what it still has. If this one is no loss, `resurgam delete` it.",
            ) from None
    for manifest in undecided:
        found = _manifest(repository, manifest)
        if found is None:
            continue
        try:
            yield from _content(repository, found)
        except DamagedError:
            # Of a list that is not there any more its writer will hear as well, before he could commit (45).
            if all(repository.index.locate(chunk) for chunk, _ in found.list_chunks()):
                raise


def _manifest(repository: Repository, manifest: bytes) -> Manifest | None:
    try:
        return repository.manifest(manifest)
    except (ObjectMissing, HostileError):
        return None  # deleted since it was listed; or nonsense, which needs nothing


def _content(repository: Repository, manifest: Manifest) -> Iterator[bytes]:
    yield b"".join(chunk for chunk, _ in manifest.list_chunks())
    yield from chunk_ids(repository.reader.blocks(manifest.list_chunks()))

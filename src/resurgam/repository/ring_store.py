"""The key ring in a store: two copies of each generation, the highest counts (docs/ordering.md, sentence 62).

- A generation whose copies are all damaged is never passed over in favour of an older one: what was removed or rotated
  since would silently be back.
- Who creates copy 1 of the next generation has made the change; the others get BusyError.
- Older generations are deleted after both copies of the new one were read back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from resurgam.errors import BusyError, DamagedError, ObjectExists, ObjectMissing, RepositoryError
from resurgam.keys.ring import LARGEST, KeyRing, decode, encode
from resurgam.stores.objects import ObjectStore

FOLDER = "keys/"
COPIES = (1, 2)
_NAME = re.compile(r"keys/([0-9]{8})\.([12])")
# A change meanwhile deletes what was just listed; each further one is somebody's deliberate act.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class StoredRing:
    """The newest generation. Two `rings` if its sound copies differ; `broken` are copies that are damaged or
    missing."""

    generation: int
    rings: tuple[KeyRing, ...]
    broken: tuple[int, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong although the ring can be had, one sentence each."""
        told = [
            f"Copy {copy} of the key ring (keys/{self.generation:08}.{copy}) is damaged or missing; the other is "
            "whole. Any change of the keys (`resurgam keys`) writes both anew."
            for copy in self.broken
        ]
        if len(self.rings) > 1:
            told.append("The two copies of the key ring differ, and only one can be ours; somebody wrote to keys/.")
        return tuple(told)


class RingStore:
    """The key ring of one repository, by its id."""

    def __init__(self, store: ObjectStore, repository: bytes) -> None:
        self._store = store
        self._repository = repository

    def read(self) -> tuple[KeyRing, ...]:
        """As `look`, only the rings."""
        return self.look().rings

    def look(self) -> StoredRing:
        """The newest generation.

        DamagedError if none of its copies is whole, RepositoryError if there is no ring, or another repository's or a
        later version's; never an older generation.
        """
        for _ in range(_TRIES):
            generations = self._listed()
            if not generations:
                raise RepositoryError(
                    "The repository has no key ring, and without it nothing in it can be read; nothing was touched.",
                    "Bring back the folder keys/ from a copy of the repository.",
                )
            newest = max(generations)
            try:
                return self._generation(newest, generations)
            except ObjectMissing:  # a change has deleted this generation since; a newer one is there
                continue
        raise BusyError("The keys were changed again and again while they were read.", "Try again.")

    def create(self, ring: KeyRing) -> None:
        """The first generation of a new repository. BusyError if there is a ring already."""
        if self._listed():
            raise BusyError("The repository has a key ring already; nothing was changed.")
        self._put(ring)

    def replace(self, ring: KeyRing) -> None:
        """Put the next generation, both copies, read them back, and delete the older ones.

        BusyError if somebody else has changed the keys meanwhile. If the store fails on the way, the change may count
        or not; either way a whole ring does.
        """
        self._put(ring)
        self._delete_below(ring.generation)

    def heal(self) -> tuple[str, ...]:
        """Put back copy 2, where a change died before it or it is damaged; what was wrong, a sentence each.

        Copy 1 stays as it is: where it is gone for a moment, a change that lost could still create it.
        """
        found = self.look()
        if found.broken == (2,):
            key = _key(found.generation, 2)
            self._store.delete(key)
            self._put_copy(key, encode(found.rings[0]))
        return found.warnings

    def _put(self, ring: KeyRing) -> None:
        data = encode(ring)
        decode(data, self._repository)  # what nobody could read again is never put
        first, second = (_key(ring.generation, copy) for copy in COPIES)
        self._put_copy(first, data)
        try:
            # A name that was deleted can be created again: who was slow could win a generation that is long gone.
            if max(self._listed(), default=0) != ring.generation:
                raise _lost()
            self._put_copy(second, data)
        except BusyError:
            self._store.delete(first)
            raise
        for key in (first, second):
            self._read_back(key, data)

    def _put_copy(self, key: str, data: bytes) -> None:
        try:
            self._store.put(key, data)
        except ObjectExists:
            raise _lost() from None

    def _read_back(self, key: str, data: bytes) -> None:
        try:
            same = self._store.get(key) == data
        except ObjectMissing:
            raise _lost() from None
        if not same:
            raise DamagedError(
                f"{key} is not as it was written; the older key ring was kept.",
                f"Look after the disk or the store; deleting {key} lets the other copy count.",
            )

    def _delete_below(self, generation: int) -> None:
        for older, sizes in self._listed().items():
            if older < generation:
                for copy in sizes:
                    self._store.delete(_key(older, copy))

    def _listed(self) -> Mapping[int, dict[int, int]]:
        """Generations, each with the sizes of its copies."""
        found: dict[int, dict[int, int]] = {}
        for listed in self._store.list(FOLDER):
            if match := _NAME.fullmatch(listed.key):
                found.setdefault(int(match[1]), {})[int(match[2])] = listed.size
        return found

    def _generation(self, generation: int, generations: Mapping[int, dict[int, int]]) -> StoredRing:
        sizes = generations[generation]
        rings: list[KeyRing] = []
        broken: list[int] = []
        trouble: list[DamagedError | RepositoryError] = []
        for copy in COPIES:
            try:
                ring = self._copy(generation, copy, sizes)
            except (DamagedError, RepositoryError) as error:
                trouble.append(error)
                ring = None
            if ring is None:
                broken.append(copy)
            elif ring not in rings:
                rings.append(ring)
        if rings:
            return StoredRing(generation, tuple(rings), tuple(broken))
        older = max((other for other in generations if other < generation), default=None)
        worst = next((one for one in trouble if isinstance(one, RepositoryError)), trouble[0])
        if older is not None and isinstance(worst, DamagedError):
            worst.hint += (
                f" If there is none: keys/{older:08}.* is an older ring; without keys/{generation:08}.* it counts "
                "again, and so does whoever was removed since."
            )
        raise worst

    def _copy(self, generation: int, copy: int, sizes: Mapping[int, int]) -> KeyRing | None:
        """None if it is not there."""
        if copy not in sizes:
            return None
        if sizes[copy] > LARGEST:
            raise DamagedError(f"{_key(generation, copy)} is too large for a key ring; nothing was touched.")
        ring = decode(self._store.get(_key(generation, copy)), self._repository)
        if ring.generation != generation:
            raise DamagedError(f"{_key(generation, copy)} holds another generation's key ring; nothing was touched.")
        return ring


def _key(generation: int, copy: int) -> str:
    return f"keys/{generation:08}.{copy}"


def _lost() -> BusyError:
    return BusyError(
        "Somebody else changed the keys at the same time; see whether this change is among them.", "resurgam keys list"
    )

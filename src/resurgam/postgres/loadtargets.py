"""What the tables about to be filled are, asked of the server once the script's definitions have run."""

from __future__ import annotations

from dataclasses import dataclass

from resurgam.postgres.loadplan import Group, Job, JobKind
from resurgam.postgres.script import CopyBlock
from resurgam.postgres.session import Session

# No text columns: with client_encoding SQL_ASCII they would come as bytes.
_QUERY = """
SELECT c.relkind = 'r', c.relkind = 'p', c.relpersistence = 't',
    c.relhastriggers OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid),
    coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)::bigint
FROM unnest(%s::text[]) WITH ORDINALITY AS asked (name, place)
LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(asked.name)
ORDER BY asked.place
"""


@dataclass(frozen=True, slots=True)
class Target:
    """One relation: `root` is the top of its partition tree (itself if it is in none). None: there is no such."""

    ordinary: bool | None
    partitioned: bool | None
    temporary: bool | None
    watched: bool | None
    root: int | None


@dataclass(frozen=True, slots=True)
class Targets:
    """The relations that a group's data goes to, by the index of the job."""

    found: dict[int, Target]

    @property
    def keep_order(self) -> bool:
        """Whether the script's own order must hold: triggers or foreign keys are there, or temporary tables."""
        return any(target.watched or target.temporary for target in self.found.values())

    def may_truncate(self, index: int, job: Job) -> bool:
        """Whether the job has all the data of one ordinary table, which no other job fills."""
        target = self.found[index]
        alike = all(isinstance(item, CopyBlock) and item.plain for item in job.items)
        shared = sum(other.root == target.root for other in self.found.values()) > 1
        return bool(target.ordinary) and alike and not (shared and target.root in self._routed())

    def _routed(self) -> set[int | None]:
        """Partition trees that are filled through a partitioned table (pg_dump --load-via-partition-root)."""
        return {target.root for target in self.found.values() if target.partitioned}

    def chain(self, jobs: tuple[Job, ...]) -> None:
        """Let data of one routed partition tree wait for the tree's earlier data.

        Indexes wait for all data of such trees: those of any partition must see the rows that are routed to it.
        """
        last: dict[int, int] = {}
        routed = self._routed()
        for index, target in self.found.items():
            if target.root is not None and target.root in routed:
                if target.root in last:
                    jobs[index].needs.add(last[target.root])
                last[target.root] = index
        ends = set(last.values())
        for index, job in enumerate(jobs):
            if job.kind is not JobKind.DATA:
                job.needs.update(end for end in ends if end < index)


def look_up(session: Session, group: Group) -> Targets:
    """Ask about every table that the group has data for. psycopg's errors pass through."""
    asked: dict[int, list[int]] = {}  # by the settings, the search path among them, that hold for the job
    for index, job in enumerate(group.jobs):
        if job.kind is JobKind.DATA:
            asked.setdefault(id(job.state), []).append(index)
    found: dict[int, Target] = {}
    for indexes in asked.values():
        session.settle(group.jobs[indexes[0]].state)
        names = [group.jobs[i].locks[0].sql() for i in indexes]
        rows = session.connection.execute(_QUERY, [names]).fetchall()
        found.update((index, Target(*row)) for index, row in zip(indexes, rows, strict=True))
    return Targets(dict(sorted(found.items())))

"""What of a script may run side by side, and what must wait for what. Pure decisions, from what statements say.

A script becomes stages, executed one after the other: single steps, in the script's own order, and groups of jobs
that several connections share. Whatever is not surely understood is a step, and a step waits for all before it
and holds back all after it. What pg_dump's comments say about dependencies only ever adds waiting.

Understood are table data, setval(), large objects, CREATE INDEX, keys, foreign keys, and the few statements that
pg_dump writes after an index for that index: they follow it on the same connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from resurgam.postgres.script import CopyBlock, Item, Run, RunKind, Script, Statement
from resurgam.postgres.statements import Relation, Token, codec, parse_relation
from resurgam.postgres.tokens import tokens

State = Mapping[str, Statement]
# (schema, index name), or (schema, table, constraint name): foreign keys of one name may be on many tables.
Made = tuple[str | None, ...]
_OPEN, _CLOSE = ("other", b"("), ("other", b")")
_SETVAL = re.compile(rb"SELECT pg_catalog\.setval\('(?:[^'\\]|'')+', -?\d+, (?:true|false)\);")


class JobKind(Enum):
    DATA = "data"
    INDEX = "index"
    KEY = "key"
    FOREIGN_KEY = "foreign key"
    VALIDATION = "validation of a foreign key"
    FREE = "free"


@dataclass(slots=True)
class Job:
    """Items that one connection executes in order, under the settings that held at their place of the script.

    `shares` and `locks` are the relations that it locks in SHARE mode and exclusively; `needs` are indexes of
    earlier jobs of the same stage; `size` is the bytes of table data that it concerns, for the order of starting.
    """

    kind: JobKind
    items: list[Item]
    state: State
    shares: tuple[Relation, ...] = ()
    locks: tuple[Relation, ...] = ()
    needs: set[int] = field(default_factory=set)
    size: int = 0

    def relations(self) -> tuple[Relation, ...]:
        return self.shares + self.locks

    def excludes(self, other: Job) -> bool:
        """Whether their locks conflict, so that running both at once only makes one wait for the other."""
        return any(
            mine.overlaps(theirs)
            for ours, others in ((self.locks, other.relations()), (self.shares, other.locks))
            for mine in ours
            for theirs in others
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One item that runs alone."""

    item: Item
    state: State


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs that may run side by side as far as their needs and locks allow."""

    jobs: tuple[Job, ...]


Stage = Step | Group


@dataclass(frozen=True, slots=True)
class _Shape:
    kind: JobKind
    shares: tuple[Relation, ...] = ()
    locks: tuple[Relation, ...] = ()
    makes: tuple[Made, ...] = ()
    unique: bool = False
    computed: bool = False  # holds an expression, which may look at any table
    slow: bool = False  # an index of a kind that takes longer to build than a btree


def plan(script: Script, skipped: Callable[[Statement], bool]) -> tuple[Stage, ...]:
    """The stages of a script, without the statements that are to be skipped."""
    planner = _Planner(codec(script.encoding))
    for item in script.items:
        if isinstance(item, Statement) and skipped(item):
            continue
        planner.add(item)
    planner.flush()
    return tuple(planner.stages)


# How much longer GIN, GiST, HNSW and computed indexes take than a btree on columns, roughly: the longest begin first.
_SLOW = 8

# A key of nothing but columns whose names need no quotes; for a table of less data two statements take longer than one.
_PLAIN_KEY = re.compile(rb"\s(PRIMARY KEY|UNIQUE) (\([a-z0-9_, ]+\));\s*\Z")
_LARGE = 1 << 20


class _Planner:
    def __init__(self, encoding: str) -> None:
        self.stages: list[Stage] = []
        self._encoding = encoding
        self._state: dict[str, Statement] = {}
        self._bytes: dict[Relation, int] = {}
        self._partitioned: set[str] = set()  # names of partitioned tables, whatever their schema
        self._partitions_unknown = False
        self._clear()

    def _clear(self) -> None:
        self._jobs: list[Job] = []
        self._touching: dict[str, list[int]] = {}  # by the name of a relation, whatever its schema
        self._shapes: list[_Shape] = []
        self._made: dict[Made, int] = {}
        self._entries: dict[int, int] = {}  # TOC id: job

    def flush(self) -> None:
        if self._jobs:
            self.stages.append(Group(tuple(self._jobs)))
        self._clear()

    def add(self, item: Item) -> None:
        if isinstance(item, Statement) and item.setting is not None:
            self._set(item)
        elif isinstance(item, CopyBlock):
            self._data(item)
        elif isinstance(item, Run):
            self._run(item)
        else:
            self._statement(item)

    def _set(self, item: Statement) -> None:
        assert item.setting is not None
        state = {name: value for name, value in self._state.items() if name != item.setting.name}
        if item.setting.value is not None:
            state[item.setting.name] = item
        self._state = state

    def _step(self, item: Item) -> None:
        self.flush()
        self.stages.append(Step(item, self._state))

    def _data(self, item: CopyBlock) -> None:
        self._bytes[item.table] = self._bytes.get(item.table, 0) + item.length
        for index in self._touching.get(item.table.name, ()):
            job = self._jobs[index]
            if job.kind is not JobKind.DATA:
                self._step(item)  # data after an index of its table: unusual, so in the script's order
                return
            if job.locks[0] == item.table and job.state is self._state:
                job.items.append(item)
                job.size += item.length
                return
        self._append(_Shape(JobKind.DATA, locks=(item.table,)), item, item.length)

    def _run(self, item: Run) -> None:
        if item.kind is RunKind.INSERTS or not item.whole:
            self._step(item)
            return
        previous = [index for index, job in enumerate(self._jobs) if isinstance(job.items[0], Run)]
        job = self._append(_Shape(JobKind.FREE), item, item.length)
        job.needs.update(previous)

    def _statement(self, item: Statement) -> None:
        shape = _shape(item, self._encoding)
        if shape is not None:
            size = max((self._bytes.get(table, 0) for table in shape.shares + shape.locks), default=0)
            if shape.kind is JobKind.FOREIGN_KEY:
                self._foreign_key(shape, item, size)
            elif shape.kind is JobKind.KEY and (columns := _PLAIN_KEY.search(item.text)) and size >= _LARGE:
                self._key(shape, item, columns, size)
            else:
                self._append(shape, item, size * (_SLOW if shape.slow else 1))
            return
        self._note_partitioned(item.text)
        index = self._follows(item)
        if index is None:
            self._step(item)
        else:
            self._jobs[index].items.append(item)

    def _note_partitioned(self, text: bytes) -> None:
        if b"PARTITION BY" in text:
            found = [token for token in tokens(text) if token != ("word", b"unlogged")]
            named = parse_relation(found, 2, self._encoding) if _words(found, 0, 2) == [b"create", b"table"] else None
            if named is None or _words(found, 2, 1) == [b"if"]:
                self._partitions_unknown = True
            else:
                self._partitioned.add(named[0].name)
        elif b"RENAME" in text:
            self._partitions_unknown = True

    def _key(self, shape: _Shape, item: Statement, columns: re.Match[bytes], size: int) -> None:
        """Build the key's index as any other, beside those of its table, and make it the key then, which is quick.

        Not on partitioned tables, which can't have a key made of an index.
        """
        table, name = shape.locks[0], Relation(None, shape.makes[0][2] or "").sql()
        if self._partitions_unknown or table.name in self._partitioned:
            self._append(shape, item, size)
            return
        index = f"CREATE UNIQUE INDEX {name} ON ONLY {table.sql()} ".encode(self._encoding, "surrogateescape")
        key = item.text[: columns.start(2)] + b"USING INDEX " + name.encode(self._encoding, "surrogateescape") + b";"
        self._append(_Shape(JobKind.INDEX, (table,)), replace(item, text=index + columns.group(2) + b";"), size)
        built = len(self._jobs) - 1
        self._append(shape, replace(item, text=key), 0).needs.add(built)

    def _foreign_key(self, shape: _Shape, item: Statement, size: int) -> None:
        """Add the key unchecked, which is quick but locks both tables, and check it then, which locks little.

        Not if one of them may be partitioned: before 18, validation forgets the keys that go to partitions.
        """
        end = item.text.rstrip().removesuffix(b";")
        partitioned = any(table.name in self._partitioned for table in shape.locks)
        one = (
            partitioned
            or self._partitions_unknown
            or b"--" in end
            or not re.search(rb"REFERENCES [^;]*\)[A-Z ]*\Z", end)
        )
        if one or b" NOT " in end[-40:]:
            self._append(shape, item, size)
            return
        table, name = shape.locks[0], shape.makes[0][2] or ""
        check = f"ALTER TABLE ONLY {table.sql()} VALIDATE CONSTRAINT {Relation(None, name).sql()};"
        self._append(shape, replace(item, text=end + b" NOT VALID;"), 0)
        added = len(self._jobs) - 1
        text = check.encode(self._encoding, "surrogateescape")
        validation = _Shape(JobKind.VALIDATION, locks=(table,), makes=shape.makes)
        self._append(validation, replace(item, text=text, toc=None), size).needs.add(added)

    def _append(self, shape: _Shape, item: Item, size: int) -> Job:
        job = Job(shape.kind, [item], self._state, shape.shares, shape.locks, size=size)
        index = len(self._jobs)
        for relation in job.relations():
            for earlier in self._touching.get(relation.name, ()):
                other = self._jobs[earlier]
                if any(relation.overlaps(touched) for touched in other.relations()) and self._waits(shape, earlier):
                    job.needs.add(earlier)
        if shape.computed:
            job.needs.update(i for i, other in enumerate(self._jobs) if other.kind is JobKind.DATA)
        if item.toc is not None:
            job.needs.update(self._entries[i] for i in item.toc.dependencies if i in self._entries)
            if item.toc.id:
                self._entries[item.toc.id] = index
        self._jobs.append(job)
        self._shapes.append(shape)
        for name in {relation.name for relation in job.relations()}:
            self._touching.setdefault(name, []).append(index)
        self._made.update(dict.fromkeys(shape.makes, index))
        return job

    def _waits(self, shape: _Shape, earlier: int) -> bool:
        other = self._shapes[earlier]
        if other.kind is JobKind.DATA:
            return True
        return shape.kind is JobKind.FOREIGN_KEY and other.unique

    def _follows(self, item: Statement) -> int | None:
        """The job that made what this statement goes on with; None if it is not of that sort."""
        made = _follower(item, self._encoding)
        index = self._made.get(made) if made is not None else None
        return index if index is not None and self._jobs[index].state is self._state else None


def _shape(item: Statement, encoding: str) -> _Shape | None:
    """What an understood statement does; None for every other one."""
    text = item.text
    if text[:7].upper() == b"SELECT ":
        return _Shape(JobKind.FREE) if _SETVAL.fullmatch(text) else None
    if text[:7].upper() == b"CREATE ":
        return _index_shape(text, encoding)
    if text[:17].upper() == b"ALTER TABLE ONLY ":
        return _constraint_shape(list(tokens(text)), encoding)
    return None


def _words(found: list[Token], at: int, count: int) -> list[bytes]:
    return [value if kind == "word" else b"" for kind, value in found[at : at + count]]


def _index_shape(text: bytes, encoding: str) -> _Shape | None:
    if not re.match(rb"CREATE\s+(?:UNIQUE\s+)?INDEX\s", text, re.IGNORECASE):
        return None
    found = list(tokens(text))
    at = 1
    unique = _words(found, at, 1) == [b"unique"]
    at += 2 if unique else 1
    if _words(found, at, 1) in ([b"concurrently"], [b"if"], [b"on"]):
        return None
    named = parse_relation(found, at, encoding)
    if named is None or named[0].schema is not None or _words(found, named[1], 1) != [b"on"]:
        return None
    at = named[1] + 1
    at += 1 if _words(found, at, 1) == [b"only"] else 0
    on = parse_relation(found, at, encoding)
    if on is None:
        return None
    table, at = on
    makes = (table.schema, named[0].name)
    computed = _computed(found, at)
    slow = computed or _words(found, at, 2) not in ([b"using", b"btree"], [b"using", b"brin"], [b"using", b"hash"])
    return _Shape(JobKind.INDEX, (table,), (), (makes,), unique, computed, slow)


def _computed(found: list[Token], at: int) -> bool:
    """Whether an index has more than columns: expressions or a condition, whose functions may read other tables."""
    depth = 0
    for token in found[at:]:
        if token == ("word", b"where"):
            return True
        depth += {_OPEN: 1, _CLOSE: -1}.get(token, 0)
        if depth > 1:
            return True
    return False


def _constraint_shape(found: list[Token], encoding: str) -> _Shape | None:
    named = parse_relation(found, 3, encoding)
    if named is None or _words(found, named[1], 2) != [b"add", b"constraint"]:
        return None
    table, at = named
    constraint = parse_relation(found, at + 2, encoding)
    if constraint is None or constraint[0].schema is not None:
        return None
    at = constraint[1]
    makes = (table.schema, table.name, constraint[0].name)
    words = _words(found, at, 2)
    if words == [b"primary", b"key"] or words[:1] == [b"unique"]:
        if ("word", b"index") in found[at:]:
            return None
        return _Shape(JobKind.KEY, locks=(table,), makes=(makes, (table.schema, makes[2])), unique=True)
    if words == [b"foreign", b"key"]:
        return _foreign_key_shape(found, at, table, makes, encoding)
    return None


def _foreign_key_shape(found: list[Token], at: int, table: Relation, makes: Made, encoding: str) -> _Shape | None:
    while at < len(found) and found[at] != ("word", b"references"):
        at += 1
    referenced = parse_relation(found, at + 1, encoding)
    if referenced is None:
        return None
    return _Shape(JobKind.FOREIGN_KEY, locks=tuple(dict.fromkeys((table, referenced[0]))), makes=(makes,))


def _follower(item: Statement, encoding: str) -> Made | None:
    """The index or constraint that this statement comments on, clusters by or identifies rows by."""
    text = item.text
    if not text.startswith((b"COMMENT ON INDEX ", b"COMMENT ON CONSTRAINT ", b"ALTER TABLE ")) or len(text) > 100_000:
        return None
    found = list(tokens(text))
    comment = found[0] == ("word", b"comment")
    only = not comment and _words(found, 2, 1) == [b"only"]
    named = parse_relation(found, 3 if comment or only else 2, encoding)
    if named is None:
        return None
    name, at = named
    if comment:
        if found[2] == ("word", b"index"):
            return name.schema, name.name
        table = parse_relation(found, at + 1, encoding) if _words(found, at, 1) == [b"on"] else None
        return (table[0].schema, table[0].name, name.name) if table else None
    for opening in ([b"cluster", b"on"], [b"replica", b"identity", b"using", b"index"]):
        if _words(found, at, len(opening)) == opening:
            index = parse_relation(found, at + len(opening), encoding)
            return (name.schema, index[0].name) if index and index[1] == len(found) - 1 else None
    return None

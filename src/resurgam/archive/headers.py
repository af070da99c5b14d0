"""Tar headers, written and read: ustar with base-256 numbers, and pax records for names that do not fit.

Writing follows docs/archive-format.md, sentences 9 to 13. Reading (`HeaderParser`) also knows GNU's long names and
global pax records, since foreign archives have them; it treats every byte as hostile, bounds what it collects,
and refuses what a backup never holds: devices, fifos, sparse and unknown kinds.
Format: POSIX.1-2001, "pax", and GNU tar's manual, "Basic Tar Format".
"""

from __future__ import annotations

from functools import lru_cache

from resurgam.archive.entry import Entry, Kind, printable
from resurgam.errors import DamagedError, HostileError

BLOCK = 512
RECORD = 10_240
# A name longer than Linux's PATH_MAX can't be restored; the rest leaves room for other pax records.
_MAX_EXTENSION = 256 << 10
_MAX_SIZE = 1 << 62
MIN_TIME, MAX_TIME = -(1 << 63), (1 << 63) - 1
# What is kept of pax records. Others (extended attributes, comments) say nothing that a restore uses.
_RECORDS = frozenset((b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname", b"mtime"))


def padding(size: int) -> int:
    """Zero bytes that follow a content of `size` bytes."""
    return -size % BLOCK


def build(entry: Entry, top: bytes) -> bytes:
    """The header blocks of an entry that stands below the folder `top` (without a slash)."""
    path = top + b"/" + entry.path if entry.path else top
    if entry.kind is Kind.FOLDER:
        path += b"/"
    target = top + b"/" + entry.target if entry.kind is Kind.HARDLINK else entry.target
    records = {}
    split = _split(path)
    if split is None:
        records["path"], split = path, (path[:100].rstrip(b"/"), b"")
    if len(target) > 100:
        records["linkpath"] = target
    head = _block(entry, split, target[:100], entry.kind.value)
    if not records:
        return head
    body = _pax_body(records)
    extension = Entry(b"", Kind.FILE, 0o644, mtime_ns=entry.mtime_ns, size=len(body))
    name = (b"PaxHeaders/" + path.rstrip(b"/").rsplit(b"/", 1)[-1])[:100]
    return _block(extension, (name, b""), b"", b"x") + body + bytes(padding(len(body))) + head


def header_blocks(entry: Entry, top: bytes) -> int:
    """How many blocks `build` gives, mostly without building them."""
    longest = len(top) + 2 + max(len(entry.path), len(entry.target) if entry.kind is Kind.HARDLINK else 0)
    if longest <= 100 and len(entry.target) <= 100:
        return 1
    return len(build(entry, top)) // BLOCK


def _split(path: bytes) -> tuple[bytes, bytes] | None:
    """(name, prefix) of the ustar fields, or None if the path does not fit them."""
    if len(path) <= 100:
        return path, b""
    cut = path.rfind(b"/", 0, min(156, len(path) - 1))
    if cut <= 0 or len(path) - cut - 1 > 100:
        return None
    return path[cut + 1 :], path[:cut]


def _number(value: int, width: int) -> bytes:
    """Octal if it fits, otherwise GNU's base-256 (negative times, sizes from 8 GiB, large user ids)."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    raw = value.to_bytes(width, "big", signed=True)
    return bytes([raw[0] | 0x80]) + raw[1:]


def _block(entry: Entry, split: tuple[bytes, bytes], target: bytes, flag: bytes) -> bytes:
    name, prefix = split
    head = b"".join(
        (
            name.ljust(100, b"\0"),
            _mode_and_ids(entry.mode, entry.uid, entry.gid),
            _number(entry.size if flag in b"0x" else 0, 12),
            _number(entry.mtime_ns // 1_000_000_000, 12),
            b"        ",
            flag,
            target.ljust(100, b"\0"),
            _magic_and_names(entry.uname, entry.gname),
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    return b"%b%06o\0 %b" % (head[:148], sum(head), head[156:])


@lru_cache(maxsize=1024)
def _mode_and_ids(mode: int, uid: int, gid: int) -> bytes:
    return _number(mode & 0o7777, 8) + _number(uid, 8) + _number(gid, 8)


@lru_cache(maxsize=1024)
def _magic_and_names(uname: str, gname: str) -> bytes:
    names = (owner_text(name).encode("utf-8", "surrogateescape").ljust(32, b"\0") for name in (uname, gname))
    return b"ustar\x0000" + b"".join(names) + b"0000000\x000000000\0"


@lru_cache(maxsize=1024)
def owner_text(name: str) -> str:
    """A user's or group's name as a header gives it back: empty if it has more than 31 bytes."""
    return name if len(name.encode("utf-8", "surrogateescape")) < 32 else ""


def _pax_body(records: dict[str, bytes]) -> bytes:
    lines = []
    try:
        b"\0".join(records.values()).decode()
    except UnicodeDecodeError:
        lines.append(_pax_record(b"hdrcharset", b"BINARY"))
    lines += [_pax_record(key.encode(), value) for key, value in records.items()]
    return b"".join(lines)


def _pax_record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`, where LENGTH counts its own digits too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


class HeaderParser:
    """Feeds on 512-byte header blocks and extension bodies; gives an Entry when one is complete.

    `header(block)` answers how the stream goes on: an Entry (its content of `entry.size` bytes and padding
    follow), an int (an extension of that many bytes follows: give them to `extension`), or None (a zero block).
    """

    def __init__(self) -> None:
        self._global: dict[bytes, bytes] = {}
        self._local: dict[bytes, bytes] = {}
        self._flag = b""

    def header(self, block: bytes) -> Entry | int | None:
        if not block.strip(b"\0"):
            if self._local:
                raise DamagedError("The tar stream ends behind an extension header.")
            return None
        if _parse_number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
            raise DamagedError("A tar header's checksum is wrong.")
        flag = block[156:157]
        size = _parse_number(block[124:136])
        if not 0 <= size < _MAX_SIZE:
            raise HostileError("A tar header gives an impossible size.")
        if flag in b"xgLK" and flag:
            if size > _MAX_EXTENSION:
                raise HostileError(f"A tar extension header of {size:,} bytes was refused.")
            self._flag = flag
            return size
        return self._entry(block, flag, size)

    def extension(self, body: bytes) -> None:
        """Take the body of the extension that `header` announced."""
        if self._flag == b"L":
            self._local[b"path"] = body.rstrip(b"\0")
        elif self._flag == b"K":
            self._local[b"linkpath"] = body.rstrip(b"\0")
        else:
            (self._global if self._flag == b"g" else self._local).update(_parse_pax(body))
        if self._flag in b"LK" and not body.rstrip(b"\0"):
            raise DamagedError("A GNU long name is empty.")

    def _entry(self, block: bytes, flag: bytes, size: int) -> Entry:
        records = {**self._global, **self._local}
        self._local = {}
        path = records.get(b"path") or _field_path(block)
        kinds = {b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"1": Kind.HARDLINK}
        kinds |= {b"2": Kind.SYMLINK, b"5": Kind.FOLDER}
        kind = kinds.get(flag)
        if kind is None or b"GNU.sparse" in records:
            what = {b"3": "a device", b"4": "a device", b"6": "a fifo"}.get(flag, "of a kind (sparse or other)")
            raise HostileError(
                f"The entry {printable(path)} is {what} that no backup holds.",
                "If you trust the archive, unpack it with tar, and pack it again without sparse or special files.",
            )
        if kind is Kind.FILE and path.endswith(b"/"):
            kind = Kind.FOLDER  # how tars from before POSIX mark a folder
        seconds, named = records.get(b"mtime"), block[257:262] == b"ustar"
        mtime_ns = _parse_number(block[136:148]) * 1_000_000_000 if seconds is None else _pax_time(seconds)
        return Entry(
            path=path.rstrip(b"/") if kind is Kind.FOLDER else path,
            kind=kind,
            mode=_parse_number(block[100:108]) & 0o7777,
            uid=_pax_int(records, b"uid", _parse_number(block[108:116])),
            gid=_pax_int(records, b"gid", _parse_number(block[116:124])),
            uname=_text(records.get(b"uname", block[265:297] if named else b"")),
            gname=_text(records.get(b"gname", block[297:329] if named else b"")),
            mtime_ns=max(MIN_TIME, min(mtime_ns, MAX_TIME)),
            size=_pax_int(records, b"size", size) if kind is Kind.FILE else 0,
            target=b"" if kind in (Kind.FILE, Kind.FOLDER) else records.get(b"linkpath") or _cut(block[157:257]),
        )


def _field_path(block: bytes) -> bytes:
    name, prefix = _cut(block[:100]), _cut(block[345:500])
    is_ustar = block[257:263] == b"ustar\0"
    return prefix + b"/" + name if is_ustar and prefix else name


def _cut(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _text(field: bytes) -> str:
    return _cut(field).decode("utf-8", "surrogateescape")


def _parse_number(field: bytes) -> int:
    if field[0] & 0x80:
        if field[0] not in (0x80, 0xFF):
            raise DamagedError("A tar header holds a malformed number.")
        return int.from_bytes(field[1:], "big") - (1 << 8 * (len(field) - 1) if field[0] == 0xFF else 0)
    digits = field.strip(b" \0")
    if digits.translate(None, b"01234567"):  # int() takes more: signs, underscores, spaces
        raise DamagedError("A tar header holds a malformed number.")
    return int(digits, 8) if digits else 0


def _parse_pax(body: bytes) -> dict[bytes, bytes]:
    records, position = {}, 0
    while position < len(body):
        space = body.find(b" ", position, position + 12)
        digits = body[position:space] if space > 0 else b""
        end = position + int(digits) if digits.isdigit() else 0
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if end > len(body) or end <= space or not equals or body[end - 1 : end] != b"\n":
            raise DamagedError("A pax header is malformed.")
        if key.startswith(b"GNU.sparse"):
            records[b"GNU.sparse"] = b""
        elif key in _RECORDS:
            if b"\0" in value:
                raise HostileError("A pax header holds a name with a NUL.")
            records[key] = value
        position = end
    return records


def _pax_int(records: dict[bytes, bytes], key: bytes, default: int) -> int:
    raw = records.get(key)
    if raw is None:
        return default
    if not raw.isdigit() or len(raw) > 19 or int(raw) >= _MAX_SIZE:
        raise DamagedError("A pax header holds a malformed number.")
    return int(raw)


def _pax_time(raw: bytes) -> int:
    """Seconds with an optional fraction, as pax writes them, in nanoseconds; exact, not through a float."""
    negative = raw.startswith(b"-")
    whole, _, fraction = raw.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or len(whole) > 12 or (fraction and not fraction.isdigit()):
        raise DamagedError("A pax header holds a malformed time.")
    nanoseconds = int(whole) * 1_000_000_000 + int((fraction + b"0" * 9)[:9])
    return -nanoseconds if negative else nanoseconds

"""Encrypted archives: the stock tools open ours and we open theirs; no change goes unnoticed; nothing plain is left.

Sentences 32 to 38 of docs/archive-format.md.
"""

from __future__ import annotations

import hashlib
import os
import pty
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from resurgam.archive import age_header
from resurgam.archive.age_file import CHUNK
from resurgam.archive.footer import METADATA_NAME
from resurgam.archive.opening import open_archive
from resurgam.archive.sealing import ArchiveKeys
from resurgam.errors import ArchiveError, DamagedError, KeyRefused, ResurgamError, StorageError
from resurgam.keys.age import identity, identity_text
from resurgam.settings.secret import Secret
from tests.archive.sealed import IDENTITY, KEYS, OTHER, PASSPHRASE, SEALINGS, write_sealed
from tests.archive.trees import NAME, Planned, manual_plan, metadata_bytes, noise, plain_plan, walked
from tests.archive.trees import file as planned_file

WRONG = {
    "passphrase": ArchiveKeys(lambda: Secret("guessed")),
    "recipients": ArchiveKeys(),
    "gpg": ArchiveKeys(lambda: Secret("guessed")),
}


@pytest.fixture(autouse=True)
def quick_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age_header, "WORK_FACTOR", 8)


@pytest.fixture(params=list(SEALINGS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def everything(path: Path, keys: ArchiveKeys) -> list[tuple[bytes, bytes]]:
    # No file key of an opening before.
    fresh = ArchiveKeys(keys.ask_passphrase, keys.ask_identities)
    with open_archive(path, fresh) as archive:
        assert archive.metadata()["backup_name"] == NAME
        return [(entry.path, b"".join(blocks)) for entry, blocks in archive.walk()]


def as_planned(plan: list[Planned]) -> list[tuple[bytes, bytes]]:
    return [*((one.entry.path, one.content) for one in plan), (METADATA_NAME, metadata_bytes())]


def decrypted_by_tool(path: Path, kind: str, folder: Path) -> Path:
    """What `age -d` or `gpg -d` makes of it."""
    out = folder / f"{NAME}.tar.gz"
    if kind == "recipients":
        (folder / "key.txt").write_text(identity_text(IDENTITY) + "\n")
        subprocess.run(["age", "-d", "-i", folder / "key.txt", "-o", out, path], check=True)
    elif kind == "passphrase":
        typed_into_age(out, path)
    else:
        home = folder / "gnupg"
        home.mkdir(mode=0o700)
        gpg = ["gpg", "--homedir", str(home), "--batch", "--pinentry-mode", "loopback", "--passphrase", PASSPHRASE]
        subprocess.run([*gpg, "-o", str(out), "-d", str(path)], check=True, capture_output=True)
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=True)
    return out


def typed_into_age(out: Path, path: Path, passphrase: str = PASSPHRASE) -> None:
    """age asks for passphrases on its terminal only."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp("age", ["age", "-d", "-o", os.fspath(out), os.fspath(path)])
    asked = b""
    while b"passphrase" not in asked:
        asked += os.read(terminal, 1000)
    os.write(terminal, passphrase.encode() + b"\n")
    assert os.waitpid(child, 0)[1] == 0
    os.close(terminal)


def test_the_stock_tools_and_plain_tar_open_it(tmp_path: Path, kind: str) -> None:
    plan = manual_plan()
    path = write_sealed(tmp_path, plan, kind)
    out = decrypted_by_tool(path, kind, tmp_path)
    assert walked(out) == [(one.entry, one.content) for one in plan]
    subprocess.run(["tar", "xzf", out, "-C", tmp_path], check=True)
    for one in plan:
        if one.content:
            assert (tmp_path / NAME / os.fsdecode(one.entry.path)).read_bytes() == one.content


def test_what_was_written_is_read_at_any_place(tmp_path: Path, kind: str) -> None:
    plan = plain_plan()
    path = write_sealed(tmp_path, plan, kind)
    assert everything(path, KEYS[kind]) == as_planned(plan)
    with open_archive(path, KEYS[kind]) as archive:
        for one in reversed(plan):
            found = archive.contents(lambda entry, wanted=one.entry.path: entry.path == wanted)  # type: ignore[misc]
            assert [(entry.path, b"".join(blocks)) for entry, blocks in found] == [(one.entry.path, one.content)]


def test_an_archive_of_the_manual_s_gpg_call_is_read(tmp_path: Path) -> None:
    """gpg without our options: it compresses what is compressed already, and writes beside the plain archive."""
    plain = write_sealed(tmp_path, manual_plan(), "plain")
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    call: list[str | Path] = ["gpg", "--homedir", home, "--batch", "--pinentry-mode", "loopback", "--symmetric"]
    call += ["--cipher-algo", "AES256"]
    subprocess.run([*call, "--passphrase", PASSPHRASE, plain], check=True)
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=True)
    plain.unlink()
    assert everything(tmp_path / f"{NAME}.tar.gz.gpg", KEYS["gpg"]) == as_planned(manual_plan())


def test_archives_of_other_tools_inside_are_read(tmp_path: Path) -> None:
    """A foreign archive that somebody encrypted by hand."""
    top = tmp_path / NAME
    top.mkdir()
    (top / "backup_metadata.json").write_text(f'{{"backup_name": "{NAME}"}}')
    tar = subprocess.run(["tar", "cz", "-C", tmp_path, NAME], check=True, capture_output=True).stdout
    path = tmp_path / f"{NAME}.tar.gz.age"
    subprocess.run(["age", "-r", str(IDENTITY.recipient), "-o", path], input=tar, check=True)
    assert [name for name, _ in everything(path, KEYS["recipients"])] == [b"backup_metadata.json"]


def test_a_wrong_or_missing_key_is_told_as_such(tmp_path: Path, kind: str) -> None:
    path = write_sealed(tmp_path, manual_plan(), kind)
    for keys in (WRONG[kind], ArchiveKeys(ask_identities=lambda: (identity(bytes(32)),)), ArchiveKeys()):
        with pytest.raises(KeyRefused) as refused:
            open_archive(path, keys)
        assert "guessed" not in refused.value.message + refused.value.hint
        assert "BACKUP_ENCRYPTION_" in refused.value.hint


def test_each_recipient_opens_it_alone(tmp_path: Path) -> None:
    path = write_sealed(tmp_path, manual_plan(), "recipients")
    for one in (IDENTITY, OTHER):
        assert everything(path, ArchiveKeys(ask_identities=partial(tuple, [one]))) == as_planned(manual_plan())


def test_no_flipped_bit_and_no_cut_goes_unnoticed(tmp_path: Path, kind: str) -> None:
    """A bit of every 4 KiB, each byte of the first and last 300, and cuts at the same places."""
    plan = [planned_file("a", noise(300_000)), planned_file("database.sql", noise(200_000), late=True)]
    path = write_sealed(tmp_path, plan, kind)
    sound, expected = path.read_bytes(), as_planned(plan)
    size = len(sound)
    step = 1 if kind != "gpg" else 60  # each look is a process
    places = {*range(0, 300, step), *range(0, size, 4096 * (1 if kind != "gpg" else 8)), *range(size - 300, size, step)}
    for place in sorted(places):
        changed = bytearray(sound)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        refused_whole(path, KEYS[kind], expected, place)
        path.write_bytes(sound[:place])
        refused_whole(path, KEYS[kind], expected, place)
    for longer in (sound + b"\0", sound + sound[-CHUNK:], sound * 2):
        path.write_bytes(longer)
        refused_whole(path, KEYS[kind], expected, size)


def refused_whole(path: Path, keys: ArchiveKeys, expected: list[tuple[bytes, bytes]], place: int) -> None:
    """Opening or walking it fails, and whatever came out before was right."""
    came: list[tuple[bytes, bytes]] = []
    with pytest.raises((DamagedError, KeyRefused, ArchiveError)):
        with open_archive(path, ArchiveKeys(keys.ask_passphrase, keys.ask_identities)) as archive:
            archive.metadata()
            came += [(entry.path, b"".join(blocks)) for entry, blocks in archive.walk()]
        pytest.fail(f"the change at byte {place} was not seen")
    assert came == expected[: len(came)]


def test_chunks_can_not_be_moved_or_taken_from_another_file(tmp_path: Path) -> None:
    plan = [planned_file("a", noise(600_000))]
    path = write_sealed(tmp_path, plan, "recipients")
    first = path.read_bytes()
    second = write_sealed(tmp_path, plan, "recipients").read_bytes()
    start = first.index(b"\n---") + 49 + 16
    sealed = CHUNK + 16
    swapped = first[:start] + first[start + sealed : start + 2 * sealed] + first[start : start + sealed]
    mixed = first[:start] + second[start : start + sealed]
    dropped = first[:start]
    for begin in (
        swapped + first[start + 2 * sealed :],
        mixed + first[start + sealed :],
        dropped + first[start + sealed :],
    ):
        path.write_bytes(begin)
        refused_whole(path, KEYS["recipients"], as_planned(plan), start)


def test_nothing_plain_is_ever_on_the_disk(tmp_path: Path, kind: str) -> None:
    """While the dump is under way, neither its spool nor the partial file is a gzip file, and the spool has no name."""
    marker = b"Pneumothorax rechts, DD Bulla " * 4
    text = marker + noise(6 << 20).hex().encode() * 3
    seen: list[bytes] = []

    def watched() -> object:
        for start in range(0, len(text), 1 << 20):
            yield text[start : start + (1 << 20)]
            for fd in os.listdir("/proc/self/fd"):
                link = Path("/proc/self/fd") / fd
                try:
                    target = os.readlink(link)
                    if target.startswith(str(tmp_path)):
                        seen.append(link.read_bytes())
                except OSError:
                    continue
            assert [path.suffix for path in tmp_path.iterdir()] == [".age" if kind != "gpg" else ".gpg"]

    one = planned_file("database.sql", b"", late=True)

    class Watched(Planned):
        def blocks(self) -> object:  # type: ignore[override]
            return watched()

    path = write_sealed(tmp_path, [Watched(one.entry, text, True)], kind)
    assert len(seen) >= 4 and any(len(one) > 10_000 for one in seen)
    for stored in [*seen, path.read_bytes()]:
        assert (
            b"\x1f\x8b\x08\x00" not in stored or stored.count(b"\x1f\x8b\x08\x00") < 2
        )  # 4 bytes may happen by chance
        assert marker not in stored


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", disk], check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        # First the spool fills the disk, then the archive.
        for size in (4 << 20, 2 << 20):
            with pytest.raises(StorageError, match="No space left"):
                write_sealed(disk, [planned_file("database.sql", noise(size), late=True)], kind)
            for path in disk.iterdir():
                path.unlink()
            assert shutil.disk_usage(disk).used < 1 << 20
    finally:
        subprocess.run(["umount", disk], check=True)


def test_without_room_gpg_archives_are_refused_before_anything_is_decrypted(tmp_path: Path) -> None:
    path = write_sealed(tmp_path, [planned_file("a", noise(2 << 20))], "gpg")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        with pytest.raises(StorageError, match="1 MB free"):
            open_archive(path, ArchiveKeys(lambda: Secret(PASSPHRASE), scratch=disk))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_the_passphrase_is_in_no_argument_and_no_environment(tmp_path: Path) -> None:
    """A gpg that tells what it was given."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "gpg").write_text(
        f'#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ >> {tmp_path}/told\nexec {shutil.which("gpg")} "$@"\n'
    )
    (tools / "gpg").chmod(0o755)
    keys = ArchiveKeys(lambda: Secret(PASSPHRASE), search_path=f"{tools}:{os.environ['PATH']}")
    SEALINGS["told"] = type(SEALINGS["gpg"])("gpg", keys)
    try:
        path = write_sealed(tmp_path, manual_plan(), "told")
    finally:
        del SEALINGS["told"]
    assert everything(path, KEYS["gpg"]) == as_planned(manual_plan())
    told = (tmp_path / "told").read_bytes()
    assert b"--symmetric" in told and b"--decrypt" in told
    assert PASSPHRASE.encode() not in told and b"BACKUP_" not in told


@pytest.mark.parametrize("missing", ["gpg"])
def test_without_gpg_the_message_says_so(tmp_path: Path, missing: str) -> None:
    path = write_sealed(tmp_path, manual_plan(), missing)
    with pytest.raises(StorageError, match="no gpg in PATH"):
        open_archive(path, ArchiveKeys(lambda: Secret(PASSPHRASE), search_path=str(tmp_path)))


_KILLED = """
import os, sys, time
from pathlib import Path
from resurgam.archive import age_header
from resurgam.archive.writer import ArchiveWriter
from tests.archive.sealed import sink_of
from tests.archive.trees import file, noise
age_header.WORK_FACTOR = 8
folder = Path(sys.argv[1])
fd = os.open(folder / ".x.partial", os.O_RDWR | os.O_CREAT)
def blocks():
    for _ in range(100):
        yield noise(1 << 20)
        print("on", flush=True)
        time.sleep(0.05)
with ArchiveWriter(sink_of(sys.argv[2], fd, folder), "b", mtime_ns=0) as writer:
    writer.add_late(file("database.sql").entry, blocks())
"""


def test_a_kill_leaves_the_partial_file_and_nothing_else(tmp_path: Path, kind: str) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, tmp_path, kind], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        for _ in range(8):
            process.stdout.readline()
        process.kill()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.partial", "tmp"]
    assert not list(scratch.iterdir())


def test_two_archives_of_the_same_content_share_no_bytes(tmp_path: Path, kind: str) -> None:
    digests = set()
    for _ in range(2):
        data = write_sealed(tmp_path, plain_plan(), kind).read_bytes()
        digests |= {hashlib.sha256(data[at : at + 64]).digest() for at in range(0, len(data) - 64, 64) if at > 512}
        before = len(digests)
    assert before == len(digests) and len(digests) > 2 * (len(data) // 64 - 20)


def test_errors_are_ours_alone(tmp_path: Path) -> None:
    """Whatever bytes stand in such a file, the answer is one of our errors."""
    for suffix in ("age", "gpg"):
        path = tmp_path / f"{NAME}.tar.gz.{suffix}"
        for data in (b"", b"x", noise(100), noise(100_000), b"age-encryption.org/v1\n" + noise(70_000)):
            path.write_bytes(data)
            with pytest.raises(ResurgamError):
                open_archive(path, KEYS["passphrase"])

"""`resurgam keys`: who may open the repository. No passphrase is ever an argument."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resurgam.cli import exits
from resurgam.cli.face import Face, JsonOption, YesOption, print_err
from resurgam.cli.wording import columns, printable
from resurgam.errors import UsageError

if TYPE_CHECKING:
    from resurgam.keys.ring import KeyRing
    from resurgam.keys.slots import Slot
    from resurgam.operations.repository_keys import KeyAccess
    from resurgam.settings.secret import Secret

app = typer.Typer(name="keys", help="Who may open the repository.", no_args_is_help=True, rich_markup_mode=None)

SlotArgument = Annotated[str, typer.Argument(metavar="SLOT", help="Its id or name, as `resurgam keys list` shows it.")]
OptionalSlot = Annotated[
    str | None, typer.Argument(metavar="[SLOT]", help="Its id or name; without it, the one in use.")
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", metavar="FILE", help="The new passphrase is its only line; else it is asked for."
    ),
]


@contextmanager
def key_access(face: Face) -> Iterator[KeyAccess]:
    """The keys of the repository that the settings name."""
    from resurgam import readiness

    with face.service() as service:
        yield readiness.repository(service).keys()


@app.command("list")
def list_keys(json: JsonOption = False) -> int:
    """List what opens the repository. Asks for no key."""
    from resurgam.operations import repository_keys

    face = Face(json)
    with key_access(face) as access:
        ring, warnings = repository_keys.list_keys(access)
    face.warn(*warnings)
    face.answer({"success": True, **repository_keys.ring_json(ring)}, _ring_text(ring))
    return exits.OK


@app.command()
def add(
    name: Annotated[str, typer.Option(metavar="NAME", help="What lists call it.")],
    recipient: Annotated[
        str | None, typer.Option(metavar="AGE1…", help="An age recipient, whose identity shall open the repository.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    json: JsonOption = False,
) -> int:
    """Let an age recipient, or another passphrase, open the repository."""
    from resurgam.operations import repository_keys

    face = Face(json)
    if recipient is not None and passphrase_file is not None:
        raise UsageError("--recipient and --passphrase-file can't be given together; nothing was changed.")
    with key_access(face) as access:
        if recipient is not None:
            changed = repository_keys.add_recipient(access, recipient, name)
        else:
            changed = repository_keys.add_passphrase(access, _new_passphrase(face, passphrase_file), name)
    face.answer(changed.to_json(), f"Added.\n\n{_ring_text(changed.ring)}")
    return exits.OK


@app.command()
def passphrase(slot: OptionalSlot = None, passphrase_file: PassphraseFile = None, json: JsonOption = False) -> int:
    """Change a passphrase. No data is touched.

    Who kept a copy of the key ring still opens it with the old one, until `resurgam keys rotate`.
    """
    from resurgam.operations import repository_keys

    face = Face(json)
    with key_access(face) as access:
        changed = repository_keys.change_passphrase(access, _new_passphrase(face, passphrase_file), slot)
    face.answer(changed.to_json(), "The passphrase was changed. Set BACKUP_ENCRYPTION_KEY to the new one, everywhere.")
    return exits.OK


@app.command()
def remove(slot: SlotArgument, yes: YesOption = False, json: JsonOption = False) -> int:
    """Let somebody open the repository no more.

    Who has kept the key still reads what is there, and what is added until `resurgam keys rotate`.
    """
    from resurgam.keys.open_ring import find_slot
    from resurgam.operations import repository_keys

    face = Face(json)
    with key_access(face) as access:
        ring, _ = repository_keys.list_keys(access)
        gone = find_slot(ring, slot)
        rest = tuple(other for other in ring.slots if other.id != gone.id)
        if not yes:
            face.confirm("Remove it?", f"{_slots_text((gone,))}\n\nThese remain:\n{_slots_text(rest)}")
        changed = repository_keys.remove_slot(access, gone.id)
    text = f"Removed. These remain:\n\n{_ring_text(changed.ring)}"
    face.answer(changed.to_json(), f"{text}\n\nWho may have kept it reads new backups too until: resurgam keys rotate")
    return exits.OK


@app.command()
def rotate(yes: YesOption = False, json: JsonOption = False) -> int:
    """Draw new keys for what is written from now on. Passphrases other than the one in use open nothing any more."""
    from resurgam.operations import repository_keys

    face = Face(json)
    with key_access(face) as access:
        ring, _ = repository_keys.list_keys(access)
        if not yes:
            face.confirm("Rotate?", f"{_ring_text(ring)}\n\nOf the passphrases only the one in use will remain.")
        changed = repository_keys.rotate(access)
    ended = f"\n\nThese open nothing any more:\n{_slots_text(changed.ended)}" if changed.ended else ""
    face.answer(changed.to_json(), f"Rotated.\n\n{_ring_text(changed.ring)}{ended}")
    return exits.OK


@app.command()
def kit(
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Make a kit: a new .html (one page to print) or .txt file.")
    ] = None,
    prove: Annotated[
        bool, typer.Option("--prove", help="Give a kit back: type its lines, or name its --file.")
    ] = False,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="With --prove: the kit's file.")] = None,
    json: JsonOption = False,
) -> int:
    """Make a recovery kit, a sheet of paper that opens the repository; or prove one by giving it back.

    Backups wait until it was proven.
    """
    from resurgam.keys.unlock import read_kit
    from resurgam.operations import repository_keys

    if (out is None) != prove or (file is not None and not prove):
        raise UsageError("Give --out FILE to make a kit, or --prove (and --file FILE) to prove one; nothing was done.")
    face = Face(json)
    with key_access(face) as access:
        if out is not None:
            changed = repository_keys.make_kit(access, out)
            text = (
                f"{out} is the recovery kit. Print it, delete the file, and prove the sheet: resurgam keys kit --prove"
            )
        else:
            given = _typed_kit(face) if file is None else read_kit(file).text.reveal()
            changed = repository_keys.prove_kit(access, given)
            text = "The kit opens the repository with nothing else: it is proven."
    face.answer(changed.to_json(), text)
    return exits.OK


@app.command()
def writer(
    out: Annotated[Path, typer.Option(metavar="FILE", help="A new file, of mode 0600.")], json: JsonOption = False
) -> int:
    """Write the key of a write-only host: with it backups can be added, and none read."""
    from resurgam.operations import repository_keys

    face = Face(json)
    with key_access(face) as access:
        ring = repository_keys.make_writer_key(access, out)
    answer = {"success": True, "file": str(out), "epoch": ring.newest.number}
    face.answer(answer, f"{out} is a writer key. On its host set BACKUP_WRITER_KEY_FILE, and no passphrase.")
    return exits.OK


def _new_passphrase(face: Face, file: Path | None) -> Secret:
    """From the file, or asked for twice without echo."""
    from getpass import getpass

    from resurgam.keys.unlock import read_passphrase
    from resurgam.settings.secret import Secret

    if file is not None:
        return read_passphrase(file)
    if face.json or not sys.stdin.isatty():
        raise UsageError("Nobody can be asked for the new passphrase; nothing was changed.", "Give --passphrase-file.")
    first = Secret(getpass("New passphrase: "))
    if first != Secret(getpass("The same again: ")):
        raise UsageError("They were not the same; nothing was changed.")
    return first


def _typed_kit(face: Face) -> str:
    """Four lines from the terminal, or everything from a pipe."""
    from resurgam.keys.kit import LARGEST, LINES

    if not sys.stdin.isatty():
        return sys.stdin.read(LARGEST + 1)
    if face.json:
        face.require_terminal()
    print_err("Type the four lines of the secret from the sheet; blanks and case don't matter.")
    lines = []
    for number in range(1, LINES + 1):
        sys.stderr.write(f"{number}: ")
        sys.stderr.flush()
        typed = sys.stdin.readline().strip()
        lines.append(typed if typed.startswith(f"{number}:") else f"{number}: {typed}")
    return "\n".join(lines)


def _ring_text(ring: KeyRing) -> str:
    head = f"Repository {ring.repository.hex()}, epoch {ring.newest.number}, key ring {ring.generation}."
    return f"{head}\n\n{_slots_text(ring.slots)}"


def _slots_text(slots: tuple[Slot, ...]) -> str:
    rows = []
    for slot in slots:
        proof = "never" if slot.proven is None else f"{slot.proven:%Y-%m-%d}"
        what = slot.recipient if slot.kind == "age" else ""
        rows.append(
            (
                slot.id,
                slot.kind,
                printable(slot.name),
                f"{slot.created:%Y-%m-%d}",
                proof if slot.kind == "kit" else "",
                what,
            )
        )
    return columns(("ID", "KIND", "NAME", "MADE", "PROVEN", "RECIPIENT"), rows)

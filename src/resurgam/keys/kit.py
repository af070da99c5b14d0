"""The recovery kit's secret as people write it down, and read back (docs/repository-format.md, sentence 28).

The secret is an age identity. After its fixed beginning stand 58 characters of Bech32's alphabet, five bits each;
printed in lines of 16, each followed by a check of four characters, a Cauchy code over GF(32) (any part of whose
matrix can be inverted): up to four wrong characters in a line, the check's own among them, are always found. The
line's number is part of the check, so that swapped lines are found too. Bech32's own checksum guards the whole.

Of slips only those are mended that the alphabet allows one reading of: it has no B, I, O and 1. Everything else is
told by its line, and never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from resurgam.errors import KeyRefused
from resurgam.keys.slots import Identity, parse_identity

LINES = 4
BEGINNING = "AGE-SECRET-KEY-1"
LARGEST = 1 << 20  # a file with a kit: its page has a picture
_ALPHABET = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
_LENGTH = 58
_WIDTH, _CHECK = 16, 4
_SLIPS = str.maketrans("OBI1", "08LL")
_NUMBER = r"[ \t]*([1-9])[ \t]*[:)]"
# A line goes on until the next one, a blank one, or a tag.
_NUMBERED = re.compile(rf"^{_NUMBER}((?:.|\n(?![ \t]*(?:\n|<|\Z)|{_NUMBER.replace('(', '(?:', 1)}))*)", re.MULTILINE)
_WHOLE = re.compile(rf"{BEGINNING}[{_ALPHABET}]{{{_LENGTH}}}", re.IGNORECASE)
# GF(32) by x^5 + x^2 + 1: powers of its generator.
_POWERS = [1]
while len(_POWERS) < 31:
    _doubled = _POWERS[-1] << 1
    _POWERS.append(_doubled ^ 0b100101 if _doubled & 32 else _doubled)
_LOGARITHMS = {power: exponent for exponent, power in enumerate(_POWERS)}


@dataclass(frozen=True, slots=True)
class Kit:
    """What a kit's sheet tells besides its secret. `url` is where the repository lies; it never holds a secret."""

    repository: bytes
    app: str
    url: str
    slot: str
    made: datetime
    identity: Identity


def kit_lines(identity: Identity) -> tuple[str, ...]:
    """The secret's lines as they are printed: `1: QPZR Y9X8 GF2T VDW0 = S3JN`."""
    secret = identity.text.reveal().removeprefix(BEGINNING)
    lines = []
    for number, part in enumerate(_parts(secret), start=1):
        groups = " ".join(part[start : start + 4] for start in range(0, len(part), 4))
        lines.append(f"{number}: {groups} = {_check(number, part)}")
    return tuple(lines)


def parse_kit(text: str) -> Identity:
    """A kit's identity from what was typed, from its file (text or HTML), or from its QR code's content.

    Blanks, line breaks, case, numbers of lines and signs between the groups don't matter. KeyRefused names the lines
    that were mistyped.
    """
    if len(text) > LARGEST:
        raise KeyRefused("That is no recovery kit: it is too large.")
    text = "\n".join(text.splitlines())
    if numbered := _NUMBERED.findall(text):
        return _from_lines(_by_number(numbered))
    whole = re.sub(r"\s+", "", text).upper()
    if found := _WHOLE.search(whole):
        return parse_identity(found[0])
    if BEGINNING in whole:
        raise KeyRefused("The identity is mistyped: its checksum or its length is wrong; nothing was changed.", _HINT)
    return _from_lines(_without_numbers(text))


_HINT = "Compare it with the sheet, character by character; there is no B, I, O and no digit 1 in it."


def _by_number(numbered: list[tuple[str, str]]) -> dict[int, str]:
    lines: dict[int, str] = {}
    for number, rest in numbered:
        if int(number) in lines or int(number) > LINES:
            raise KeyRefused(f"Two lines have the number {number}, or there is none of that number.", _HINT)
        lines[int(number)] = _plain(rest)
    return lines


def _without_numbers(text: str) -> dict[int, str]:
    """As they were typed if they are four; else by their lengths."""
    written = [line for line in text.splitlines() if _plain(line)]
    typed = [_plain(line) for line in written]
    if len(typed) == LINES:
        return {number: _unnumbered(number, line) for number, line in enumerate(written, start=1)}
    plain, width = "".join(typed), _WIDTH + _CHECK
    lines = {number: plain[(number - 1) * width : number * width] for number in range(1, LINES + 1)}
    lines[LINES] += plain[LINES * width :]
    if abs(len(plain) - _LENGTH - LINES * _CHECK) in (1, 2, 3):
        # Some are too many or missing, so that all that follows is shifted: only the first is known to be wrong.
        first = next(number for number in lines if not _fits(number, lines[number]))
        raise _mistyped([first])
    return lines


def _unnumbered(number: int, line: str) -> str:
    """Without a number that stands before it with a blank only, where it makes the line too long."""
    rest = re.sub(rf"^\s*{number}\s", "", line)
    return _plain(rest if len(_plain(rest)) == len(_parts("?" * _LENGTH)[number - 1]) + _CHECK else line)


def _from_lines(lines: dict[int, str]) -> Identity:
    wrong = [number for number in range(1, LINES + 1) if not _fits(number, lines.get(number, ""))]
    if len(wrong) == LINES:
        raise KeyRefused("None of the four lines is a recovery kit's; nothing was changed.", _HINT)
    if wrong:
        raise _mistyped(wrong)
    return parse_identity(BEGINNING + "".join(lines[number][:-_CHECK] for number in range(1, LINES + 1)))


def _mistyped(wrong: list[int]) -> KeyRefused:
    named = f"Line {wrong[0]} of the recovery kit is" if len(wrong) == 1 else f"Lines {_listed(wrong)} of the kit are"
    return KeyRefused(f"{named} mistyped or missing; nothing was changed.", _HINT)


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"


def _fits(number: int, line: str) -> bool:
    part, check = line[:-_CHECK], line[-_CHECK:]
    return (
        len(part) == len(_parts("?" * _LENGTH)[number - 1])
        and set(line) <= set(_ALPHABET)
        and _check(number, part) == check
    )


def _parts(secret: str) -> list[str]:
    return [secret[start : start + _WIDTH] for start in range(0, _LENGTH, _WIDTH)]


def _plain(text: str) -> str:
    """What was typed in letters and digits, in capitals, with the slips that have one reading only."""
    return re.sub(r"[\s=:.,_|-]+", "", text).upper().translate(_SLIPS)


def _check(number: int, part: str) -> str:
    values = [number, *map(_ALPHABET.index, part)]
    check = []
    for row in range(_CHECK):
        total = 0
        for place, value in enumerate(values):
            # Places are below 17 and rows from 28 on, so that no two coincide: a Cauchy matrix.
            total ^= _quotient(value, place ^ (28 + row))
        check.append(_ALPHABET[total])
    return "".join(check)


def _quotient(value: int, divisor: int) -> int:
    return 0 if value == 0 else _POWERS[(_LOGARITHMS[value] - _LOGARITHMS[divisor]) % 31]

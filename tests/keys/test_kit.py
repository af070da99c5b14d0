"""The recovery kit, typed by people (docs/repository-format.md, sentence 28)."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import segno
from hypothesis import assume, given
from hypothesis import strategies as st

from resurgam.errors import KeyRefused
from resurgam.keys.kit import Kit, kit_lines, parse_kit
from resurgam.keys.kit_sheet import as_html, as_text
from resurgam.keys.slots import Identity, new_identity, parse_identity
from tests.keys.rings import REPOSITORY, WHEN

# SHA-256 of `a recovery kit`, as age writes an identity.
SECRET = "AGE-SECRET-KEY-1AZYMK4L63WG2YSTH7HGRQ8SLGUD72NNAXG97PFPSLAW6G6WP05QS8CQYDE"
IDENTITY = Identity(parse_identity(SECRET).text)
LINES = kit_lines(IDENTITY)
SHEET = "\n".join(LINES)
_DATA = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
_REPLACEMENTS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -=:?#"
_MENDED = {"0": "O", "8": "B", "L": "I1"}


def kit(url: str = "/srv/backups", app: str = "radiology") -> Kit:
    return Kit(REPOSITORY, app, url, "ab12cd34", WHEN, IDENTITY)


def divided(value: int, divisor: int) -> int:
    """In GF(32), by trying every element: slow, and nothing of the code under test."""

    def product(left: int, right: int) -> int:
        total = 0
        for bit in range(5):
            if right >> bit & 1:
                total ^= left << bit
        for bit in range(9, 4, -1):
            if total >> bit & 1:
                total ^= 0b100101 << (bit - 5)
        return total

    return next(result for result in range(32) if product(result, divisor) == value)


def test_the_lines_are_those_of_the_format() -> None:
    secret = SECRET.removeprefix("AGE-SECRET-KEY-1")
    for number, line in enumerate(LINES, start=1):
        groups, check = line.removeprefix(f"{number}: ").split(" = ")
        part = groups.replace(" ", "")
        assert part == secret[(number - 1) * 16 : number * 16]
        assert {len(group) for group in groups.split(" ")[:-1]} == {4}
        values = [number, *map(_DATA.index, part)]
        for row, sign in enumerate(check):
            total = 0
            for place, value in enumerate(values):
                total ^= divided(value, place ^ (28 + row))
            assert _DATA[total] == sign


@pytest.mark.parametrize(
    "typed",
    [
        SHEET,
        SHEET.lower(),
        SHEET.replace("\n", "\r\n"),
        SHEET.replace(" ", ""),
        SHEET.replace(" = ", "\n"),
        SHEET.replace(" ", "-"),
        SHEET.replace("\n", "\n\n"),
        SHEET.replace(": ", ") "),
        re.sub(r"\d: ", "", SHEET),
        re.sub(r"(\d): ", r"\1  ", SHEET),
        re.sub(r"\d: ", "", SHEET).replace("\n", " "),
        re.sub(r"[^A-Z0-9]", "", re.sub(r"\d: ", "", SHEET)).lower(),
        "\n".join(reversed(LINES)),
        SHEET.replace("0", "O").replace("8", "B"),
        re.sub("L", "1", SHEET),
        SECRET,
        SECRET.lower() + "\n",
        f"# created: 2025-01-04\n{SECRET}\n",
        as_text(kit()),
        as_text(kit()).replace("\n", "\r\n"),
        as_html(kit()),
        as_html(kit("<script>1: AAAA</script>", "1: AAAA BBBB")),
    ],
    ids=range(22),
)
def test_a_kit_is_read_however_it_was_typed(typed: str) -> None:
    assert parse_kit(typed) == IDENTITY


def test_any_kit_comes_back() -> None:
    for _ in range(200):
        identity = new_identity()
        assert parse_kit("\n".join(kit_lines(identity))) == identity


@given(st.integers(1, 4), st.data())
def test_every_wrong_character_is_found_and_its_line_named(number: int, data: st.DataObject) -> None:
    line = LINES[number - 1]
    place = data.draw(st.integers(3, len(line) - 1))
    sign = data.draw(st.sampled_from(_REPLACEMENTS))
    assume(line[place] not in " =" and sign != line[place])
    typed = line[:place] + sign + line[place + 1 :]
    if sign in _MENDED.get(line[place], ""):
        assert parse_kit("\n".join([*LINES[: number - 1], typed, *LINES[number:]])) == IDENTITY
        return
    with pytest.raises(KeyRefused, match=f"^Line {number} of the recovery kit is mistyped or missing"):
        parse_kit("\n".join([*LINES[: number - 1], typed, *LINES[number:]]))


def test_every_single_wrong_character_is_found() -> None:
    """All of them, not a sample: 74 places, 31 other characters each."""
    for number, line in enumerate(LINES, start=1):
        for place in range(3, len(line)):
            for sign in _DATA if line[place] not in " =" else "":
                if sign != line[place]:
                    typed = [*LINES[: number - 1], line[:place] + sign + line[place + 1 :], *LINES[number:]]
                    with pytest.raises(KeyRefused, match=f"^Line {number} of"):
                        parse_kit("\n".join(typed))


@given(st.integers(1, 4), st.integers(2, 4), st.randoms(use_true_random=False))
def test_up_to_four_wrong_characters_in_a_line_are_found(number: int, wrong: int, rng: random.Random) -> None:
    line = list(LINES[number - 1])
    for place in rng.sample([place for place in range(3, len(line)) if line[place] not in " ="], wrong):
        line[place] = rng.choice([sign for sign in _DATA if sign != line[place]])
    with pytest.raises(KeyRefused, match=f"^Line {number} of the recovery kit"):
        parse_kit("\n".join([*LINES[: number - 1], "".join(line), *LINES[number:]]))


@given(st.integers(1, 4), st.data(), st.sampled_from(["numbered", "lines", "blob"]))
def test_a_missing_or_doubled_character_is_found_and_its_line_named(
    number: int, data: st.DataObject, form: str
) -> None:
    bare = [re.sub(r"[ =]", "", line[3:]) for line in LINES]
    place = data.draw(st.integers(0, len(bare[number - 1]) - 1))
    twice = data.draw(st.booleans())
    line = bare[number - 1]
    bare[number - 1] = line[:place] + (2 * line[place] if twice else "") + line[place + 1 :]
    numbered = "\n".join(f"{count}: {one}" for count, one in enumerate(bare, start=1))
    typed = {"numbered": numbered, "lines": "\n".join(bare), "blob": "".join(bare)}[form]
    with pytest.raises(KeyRefused, match=r"^Line (\d) of") as caught:
        parse_kit(typed)
    named = int(re.findall(r"Line (\d)", caught.value.message)[0])
    # Without lines, what a line lacks at its end is taken from the next one, which may begin with just that.
    assert named == number or (form == "blob" and named == number + 1)


@pytest.mark.parametrize("pair", [(1, 2), (2, 3), (3, 4), (1, 4)])
def test_swapped_and_missing_lines_are_named(pair: tuple[int, int]) -> None:
    first, second = pair
    lines = dict(enumerate((line[3:] for line in LINES), start=1))
    lines[first], lines[second] = lines[second], lines[first]
    with pytest.raises(KeyRefused, match=f"^Lines {first} and {second} of"):
        parse_kit("\n".join(f"{number}: {line}" for number, line in lines.items()))
    with pytest.raises(KeyRefused, match=f"^Line {first} of"):
        parse_kit("\n".join(line for line in LINES if not line.startswith(f"{first}:")))
    with pytest.raises(KeyRefused, match=f"number {first}"):
        parse_kit(f"{SHEET}\n{LINES[first - 1]}")


@pytest.mark.parametrize(
    "nonsense", ["", "\n\n", "hello", "1: hello", "x" * (1 << 20), "x" * (1 << 21), "9: QPZR", "ß"]
)
def test_nonsense_is_refused(nonsense: str) -> None:
    with pytest.raises(KeyRefused):
        parse_kit(nonsense)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_whatever_is_typed_is_refused_in_words(text: str) -> None:
    with pytest.raises(KeyRefused) as caught:
        parse_kit(text)
    assert len(caught.value.message) < 120


def test_a_mistyped_identity_is_refused_and_never_shown() -> None:
    for wrong in (SECRET[:-1] + "Q", SECRET[:-1], SECRET[:20] + "QQ" + SECRET[22:]):
        with pytest.raises(KeyRefused) as caught:
            parse_kit(wrong)
        assert SECRET[16:32] not in caught.value.message + caught.value.hint


def test_the_sheet_says_all_that_is_needed() -> None:
    for sheet in (as_text(kit()), as_html(kit())):
        words = " ".join(sheet.split())
        for needed in (
            REPOSITORY.hex(),
            "radiology",
            "/srv/backups",
            "2025-01-04",
            "ab12cd34",
            "pip install ./resurgam",
        ):
            assert needed in words
        for command in ("BACKUP_RECOVERY_KIT_FILE=kit.txt", "resurgam list", "resurgam export NAME", *LINES):
            assert command in words


def test_the_text_fits_on_a_page_of_80_columns() -> None:
    lines = as_text(kit()).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 66


def test_the_qr_code_is_the_identity() -> None:
    """Its modules, read from the blocks, are those of a code of the identity alone."""
    blocks = [line for line in as_text(kit()).splitlines() if set(line) & set("▀▄█")]
    code = segno.make(SECRET, error="q", micro=False)
    assert code.mode == "alphanumeric"
    width = int(code.symbol_size(border=0)[0])
    rows: list[str] = []
    for line in blocks:
        cells = line.ljust(4 + width)[4 : 4 + width]
        rows += ["".join("1" if cell in "▀█" else "0" for cell in cells)]
        rows += ["".join("1" if cell in "▄█" else "0" for cell in cells)]
    assert rows[:width] == ["".join("1" if module else "0" for module in row) for row in code.matrix]


class _Page(HTMLParser):
    """Whatever of a page could fetch or run something, and its balance of tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def test_the_page_needs_nothing_and_runs_nothing() -> None:
    hostile = as_html(kit('"><img src=x onerror=1>', "<script>alert(1)</script>"))
    page = _Page()
    page.feed(hostile)
    assert not {"script", "img", "link", "iframe", "object"} & set(page.tags)
    assert not {"src", "href", "onerror", "xlink:href"} & set(page.attributes)
    assert page.tags.count("svg") == 1
    assert "size: A4" in hostile


def test_control_characters_reach_no_terminal() -> None:
    assert "\x1b" not in as_text(kit("\x1b[2Jgone", "a\x1bpp"))


@pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed (apt-get install age)")
def test_age_reads_what_is_wrapped_to_a_kit_and_we_what_age_wraps(tmp_path: Path) -> None:
    """With Debian's age, both ways: the kit is an identity of a stock tool."""
    from resurgam.keys.slots import Slot, open_by_identity, wrap_to

    access = bytes(range(32))
    (tmp_path / "identity").write_text(f"{SECRET}\n")
    (tmp_path / "wrapped").write_bytes(wrap_to(access, IDENTITY.recipient))
    opened = subprocess.run(["age", "-d", "-i", "identity", "wrapped"], cwd=tmp_path, capture_output=True, check=True)
    assert opened.stdout == access
    sealed = subprocess.run(["age", "-r", IDENTITY.recipient], input=access, capture_output=True, check=True).stdout
    slot = Slot("00000000", "kit", "kit", WHEN, sealed, recipient=IDENTITY.recipient)
    assert open_by_identity(slot, IDENTITY) == access
    made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True).stdout
    assert parse_kit(made).recipient == re.findall("age1[0-9a-z]+", made)[0]

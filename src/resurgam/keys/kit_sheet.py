"""The recovery kit's sheet: a text, and a page for one side of A4 that needs nothing else (sentence 28).

It is read by somebody who has lost everything else, at night. So it says what it is, what to install, and each command.
"""

from __future__ import annotations

import io
import textwrap
from html import escape
from typing import TYPE_CHECKING

from resurgam.keys.kit import Kit, kit_lines

if TYPE_CHECKING:
    import segno

_QUIET = 4  # modules of white around a QR code, by its standard


def as_text(kit: Kit) -> str:
    """The sheet in plain text; the QR code in block characters, dark on light as on paper."""
    commands = "\n".join(f"       {line}" for line in _commands(kit))
    secret = "\n".join(f"    {line}" for line in kit_lines(kit.identity))
    facts = "\n".join(f"    {name:<13}{value}" for name, value in _facts(kit))
    keep, by_age, what = (textwrap.fill(words, 78) for words in (_KEEP, _BY_AGE, _WHAT))
    return f"""\
RECOVERY KIT for the backups of {_one_line(kit.app)}

{facts}

{what}

THE SECRET

{secret}

WHAT TO DO when the backups are needed

{_numbered(commands)}

{keep}

{by_age}
{_blocks(kit)}"""


def as_html(kit: Kit) -> str:
    """The sheet as one HTML file: prints on one page, fetches nothing, runs nothing."""
    picture = io.BytesIO()
    _code(kit).save(picture, kind="svg", border=_QUIET, xmldecl=False, svgns=True, nl=False, omitsize=True)
    facts = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in _facts(kit))
    secret = "\n".join(kit_lines(kit.identity))
    commands = escape("\n".join(_commands(kit)))
    steps = "".join(f"<li>{escape(step)}</li>" for step in _STEPS[:2])
    return f"""\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Recovery kit</title>
<style>
@page {{ size: A4; margin: 15mm }}
body {{ font: 10.5pt/1.4 sans-serif; color: #000; background: #fff; max-width: 180mm; margin: 0 auto }}
h1 {{ font-size: 16pt; margin: 0 0 3mm }} h2 {{ font-size: 12pt; margin: 4mm 0 1mm }} p {{ margin: 1mm 0 }}
th {{ text-align: left; font-weight: normal; padding-right: 6mm; vertical-align: top }}
td, pre {{ font-family: monospace; overflow-wrap: anywhere; white-space: pre-wrap }} pre {{ margin: 1mm 0 }}
pre.secret {{ font-size: 15pt; line-height: 1.5; border: 1px solid #000; padding: 2mm 4mm }}
svg {{ width: 55mm; height: 55mm; float: right }} ol {{ margin: 1mm 0; padding-left: 6mm }}
</style></head><body>
<h1>Recovery kit for the backups of {escape(_one_line(kit.app))}</h1>
<table>{facts}</table>
<p>{escape(_WHAT)}</p>
<h2>The secret</h2>
<pre class="secret">
{secret}
</pre>
<h2>What to do when the backups are needed</h2>
{picture.getvalue().decode()}
<ol>{steps}<li>{escape(_STEPS[2])}<pre>{commands}</pre></li></ol>
<p>{escape(_KEEP)}</p>
<p>{escape(_BY_AGE)}</p>
</body></html>
"""


_WHAT = (
    "This sheet and a copy of the repository are all that is needed to read every backup in it: no passphrase, and not "
    "the machine that made them. Whoever has both can read everything. Without the repository it is worthless."
)
_STEPS = (
    "Take a machine with Python 3.11 or later; from the copy of Resurgam: pip install ./resurgam",
    "Type the four lines of the secret, each with its number, into a file kit.txt (or scan the QR code into it). "
    "Blanks and case do not matter; there is no B, I, O and no digit 1 in it; a mistyped line is named.",
    "Open the repository with nothing else, and look. If it lies elsewhere by now, give that place:",
)
_KEEP = (
    "Keep it on paper, where fire and thieves that take the machine do not reach: a safe, another house. "
    "Delete the file."
)
_BY_AGE = (
    "The QR code holds an identity of the tool age (https://age-encryption.org): AGE-SECRET-KEY-1 and the groups of "
    "the four lines, without the four characters after each equals sign."
)


def _facts(kit: Kit) -> tuple[tuple[str, str], ...]:
    return (
        ("Repository", kit.repository.hex()),
        ("Application", _one_line(kit.app)),
        ("It lies in", _one_line(kit.url)),
        ("Key slot", kit.slot),
        ("Made", f"{kit.made:%Y-%m-%d}"),
    )


def _commands(kit: Kit) -> tuple[str, ...]:
    return (
        f"export BACKUP_REPOSITORY={_quoted(kit.url)}",
        f"export APP_NAME={_quoted(kit.app)}",
        "export BACKUP_RECOVERY_KIT_FILE=kit.txt",
        "resurgam list",
        "resurgam verify NAME",
        "resurgam export NAME backup.tar.gz   # which any tar opens",
        "resurgam restore NAME --plan         # shows what it would do",
    )


def _numbered(commands: str) -> str:
    steps = [
        textwrap.fill(step, 78, initial_indent=f"    {number}. ", subsequent_indent="       ")
        for number, step in enumerate(_STEPS, start=1)
    ]
    return "\n".join([*steps, "", commands])


def _quoted(text: str) -> str:
    return "'" + _one_line(text).replace("'", "'\\''") + "'"


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _code(kit: Kit) -> segno.QRCode:
    """The identity alone, in capitals, which QR codes store densely; a quarter of it may be unreadable."""
    import segno  # only whoever prints a kit waits for it

    return segno.make(kit.identity.text.reveal(), error="q", micro=False)


def _blocks(kit: Kit) -> str:
    """Two rows of modules a line, in half blocks."""
    rows = [[bool(module) for module in row] for row in _code(kit).matrix_iter(border=_QUIET)]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    signs = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "".join("".join(signs[pair] for pair in zip(*both, strict=True)).rstrip() + "\n" for both in pairs)

"""docs/commands.md is what the commands are."""

from __future__ import annotations

from resurgam.cli.reference import reference
from tests.cli.commands import ROOT


def test_the_page_is_what_the_commands_say() -> None:
    wanted = "run `python -m resurgam.cli.reference > docs/commands.md`"
    assert (ROOT / "docs" / "commands.md").read_text() == reference(), wanted

"""docs/settings.md says what the code does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from resurgam.settings import Settings
from resurgam.settings.reference import reference
from resurgam.settings.table import Variable
from resurgam.settings.variables import GROUPS

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_the_codes() -> None:
    assert PAGE.read_text() == reference(), "run: python -m resurgam.settings.reference > docs/settings.md"


def test_every_setting_has_a_row_and_a_default() -> None:
    rows = {variable.name.lower(): variable for _, group in GROUPS for variable in group}
    own = {"database", "config_path", "env_path", "secret_files", "warnings", "unavailable"}
    own |= {
        "schedule",
        "jwt",
        "messages",
        "hooks",
        "health",
        "drills",
        "repository",
        "encryption",
        "restore_database",
        "on_shutdown",
    }  # several variables each
    for field in dataclasses.fields(Settings):
        assert field.name in rows or field.name in own
    for variable in rows.values():
        if isinstance(variable, Variable):
            assert variable.default or variable.shown

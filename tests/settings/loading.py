"""What the tests of settings share: loading them, and being refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgam.errors import SettingsError
from resurgam.settings import Settings, load_settings


def load(app: Path, **environ: str) -> Settings:
    return load_settings({"APP_DIR": str(app), **environ}, folder=app.parent)


def refusal(app: Path, **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(app, **environ)
    assert caught.value.hint
    return caught.value.message


def write_toml(app: Path, text: str) -> Path:
    file = app / "resurgam.toml"
    file.write_text(text)
    file.chmod(0o600)
    return file

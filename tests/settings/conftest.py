"""The folder of an application whose settings are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    return folder

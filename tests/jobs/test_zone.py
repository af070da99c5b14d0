"""The machine's time zone, found as the C library finds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import TZPATH

import pytest

from resurgam.jobs.zone import schedule_zone, zone_name

BERLIN = next(path for top in TZPATH if (path := Path(top) / "Europe/Berlin").exists())
SHOWN = "import time; print(time.strftime('%Y-%m-%dT%H:%M', time.localtime({})))"


@pytest.mark.parametrize(
    "told",
    [
        "UTC",
        "Europe/Berlin",
        ":America/St_Johns",
        str(BERLIN),
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "<+0330>-3:30",
        "EST5EDT",
        "",
        "No/Such",
        "/no/such/file",
        "../../etc/passwd",
    ],
)
@pytest.mark.parametrize("moment", [1768000000, 1783000000])
def test_tz_means_what_it_means_to_the_c_library(told: str, moment: int) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN.format(moment)],
        env={**os.environ, "TZ": told},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    zone = schedule_zone("", {"TZ": told})
    assert f"{datetime.fromtimestamp(moment, zone):%Y-%m-%dT%H:%M}" == shown


def test_without_tz_the_local_file_counts(tmp_path: Path) -> None:
    link, copy, broken = tmp_path / "link", tmp_path / "copy", tmp_path / "broken"
    link.symlink_to(BERLIN)
    shutil.copyfile(BERLIN, copy)
    broken.write_bytes(b"no zone")
    assert zone_name(schedule_zone("", {}, link)) == "Europe/Berlin"
    copied = schedule_zone("", {}, copy)
    assert zone_name(copied) == "local"
    assert f"{datetime.fromtimestamp(1783000000, copied):%z}" == "+0200"
    for unusable in (broken, tmp_path / "missing", tmp_path):
        assert zone_name(schedule_zone("", {}, unusable)) == "UTC"


def test_a_name_that_is_set_comes_first(tmp_path: Path) -> None:
    assert zone_name(schedule_zone("Asia/Tokyo", {"TZ": "UTC"})) == "Asia/Tokyo"

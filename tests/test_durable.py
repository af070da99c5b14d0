"""What durable.py says of file systems."""

from __future__ import annotations

from pathlib import Path

from resurgam.durable import filesystem_type


def test_the_file_system_of_a_path() -> None:
    assert filesystem_type(Path("/proc/self/status")) == "proc"
    assert filesystem_type(Path("/proc/not/there/yet")) == "proc"
    assert filesystem_type(Path("/sys/kernel")) == "sysfs"
    assert filesystem_type(Path("/procedure")) == filesystem_type(Path("/"))


def test_a_link_counts_as_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    assert filesystem_type(tmp_path / "link" / "x") == "proc"
    assert filesystem_type(tmp_path) not in ("proc", "")

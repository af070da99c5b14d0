"""A file with holes may be larger than the disk it lies on, before a restore as after it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from resurgam.operations.restore import Parts
from tests.clusters import Database
from tests.operations.scene import scene_for

SIZE = 200 << 20


def test_a_file_with_holes_that_is_larger_than_the_disk_comes_back(database: Database, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    scene = scene_for(database, tmp_path, BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="uploads")
    scene.execute("CREATE TABLE t (id int)")
    uploads = scene.app / "uploads"
    uploads.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", uploads], check=True)
    try:
        with (uploads / "disk.img").open("wb") as file:
            file.write(b"begin")
            file.truncate(SIZE)
        with scene.service() as service:
            name = service.backup().name
            (uploads / "disk.img").unlink()
            service.restore(name, Parts(database=False, config=False))
        status = (uploads / "disk.img").stat()
        assert status.st_size == SIZE
        assert status.st_blocks * 512 < 1 << 20
        assert (uploads / "disk.img").read_bytes() == b"begin" + bytes(SIZE - 5)
    finally:
        subprocess.run(["umount", uploads], check=True)

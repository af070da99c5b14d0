"""Places that two applications share, and errors that pass: neither may be taken for what it is not."""

from __future__ import annotations

import errno
import io
import json
import os
import pwd
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest

from resurgam import readiness
from resurgam.catalog.catalog import Catalog, Description, StoredFile
from resurgam.catalog.facts import LARGEST_SEQUENCE, facts_of
from resurgam.operations.archive_holdings import ArchiveHoldings
from resurgam.operations.inventory import Inventory
from resurgam.operations.recovery import recover_restores
from resurgam.operations.swap_paths import discard_staging
from resurgam.service import Service
from resurgam.stores.folder import BackupFolder
from resurgam.stores.mounted import RemoteFolder
from tests.clusters import Database
from tests.operations.scene import scene_for


def test_a_restore_of_another_folder_is_not_settled_by_this_one(database: Database, tmp_path: Path) -> None:
    """Its process may be in the middle of it, and its database on another server."""
    mine, theirs = (scene_for(database, tmp_path / name) for name in ("mine", "theirs"))
    shared = {"BACKUP_STATE_FILE": str(tmp_path / "state.sqlite")}
    for scene in (mine, theirs):
        scene.backups.mkdir(parents=True)
    staged = theirs.root / ".resurgam-x-uploads"
    staged.mkdir()
    plan = {"backup": "b", "folder": os.path.realpath(theirs.backups)}
    with theirs.service(**shared) as running, mine.service(**shared) as other:
        running.state.journal_begin("x", plan)
        running.state.journal_step("x", "staging", {"path": str(staged)})
        assert recover_restores(other.state, other.server, other.folder.path) == ()
        assert staged.is_dir()
        running.state.journal_end("x", "reverted")
    dying = os.fork()
    if dying == 0:
        running = Service.from_environment(theirs.environment(**shared))
        running.state.journal_begin("y", plan)
        running.state.journal_step("y", "staging", {"path": str(staged)})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(dying, 0)[1]) == 0
    with mine.service(**shared) as other:
        # Its process is dead now, but its folder is there, and so is whoever settles it.
        assert recover_restores(other.state, other.server, other.folder.path) == ()
        assert staged.is_dir()
        shutil.rmtree(theirs.backups)
        assert len(recover_restores(other.state, other.server, other.folder.path)) == 1
    assert not staged.exists()


def test_a_sweep_of_the_remote_folder_leaves_other_applications_copies_alone(tmp_path: Path) -> None:
    for app in ("radiology", "billing"):
        (tmp_path / f".{app}_backup_20250101_000000.tar.gz.partial").touch()
    remote = RemoteFolder(tmp_path)
    remote.set_up()
    remote.sweep("radiology")
    assert [path.name for path in tmp_path.glob("*.partial")] == [".billing_backup_20250101_000000.tar.gz.partial"]


def test_an_archive_that_could_not_be_read_once_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "radiology_backup_20250101_000000"
    (tmp_path / f"{name}.tar.gz").write_bytes(b"\x1f\x8b\x08 and no archive")
    folder = BackupFolder(tmp_path)
    inventory = Inventory(folder, ArchiveHoldings(folder), None, Catalog.open(tmp_path / "catalog.sqlite"))
    pread = os.pread

    def stalled(*details: int) -> bytes:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "pread", stalled)
    inventory.refresh()
    assert "Stale file handle" in inventory.find(name).problem
    monkeypatch.setattr(os, "pread", pread)
    inventory.refresh()
    assert "Stale file handle" not in inventory.find(name).problem
    # And what lasts is not read at every listing.
    monkeypatch.setattr(os, "pread", stalled)
    inventory.refresh()
    assert "Stale file handle" not in inventory.find(name).problem
    inventory.catalog.close()


def test_a_forged_sequence_number_is_not_outgrown(tmp_path: Path) -> None:
    """The backups after it would count as without one, hence as the oldest, and be the first to be deleted."""
    with Catalog.open(tmp_path / "catalog.sqlite") as catalog:
        forged = StoredFile("local", "radiology_backup_20250101_000000", 1, 1, 1)
        catalog.refresh("local", [forged], lambda file: Description("good", "", {"sequence": LARGEST_SEQUENCE}))
        following = catalog.next_sequence()
    assert facts_of("radiology_backup_20250102_000000", 0, {"sequence": following}).sequence == following > 0


def test_staging_with_read_only_folders_is_removed_also_by_a_plain_user() -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        top.chmod(0o777)
        child = os.fork()
        if child == 0:
            ended = 1
            try:
                if os.geteuid() == 0:
                    os.setuid(pwd.getpwnam("nobody").pw_uid)
                staged = top / ".resurgam-1-uploads"
                (staged / "a" / "b").mkdir(parents=True)
                (staged / "a" / "b" / "file").touch()
                for path in (staged / "a" / "b", staged / "a", staged):
                    path.chmod(0o555)
                discard_staging(staged)
                ended = int(staged.exists())
            finally:
                os._exit(ended)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_foreign_archive_whose_copy_was_cut_is_copied_again(database: Database, tmp_path: Path) -> None:
    """Where a mount knows no rename, a copy is written under its own name, and a kill leaves half of it."""
    remote, name = tmp_path / "remote", "radiology_backup_20250101_000000"
    scene = scene_for(database, tmp_path, REMOTE_BACKUP_ENABLED="true", REMOTE_BACKUP_PATH=str(remote))
    scene.more |= {"BACKUP_CONFIG_FILES": "none", "BACKUP_FILE_TREES": "none", "BACKUP_RETENTION_DAYS": "9999"}
    scene.app.mkdir()
    with scene.service() as service:
        list(readiness.set_up(service))
        with tarfile.open(scene.backups / f"{name}.tar.gz", "w:gz") as archive:
            content = json.dumps({"backup_name": name}).encode()
            for path, data in (
                ("backup_metadata.json", content),
                ("database_20250101_000000.sql", os.urandom(1 << 18)),
            ):
                entry = tarfile.TarInfo(f"{name}/{path}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        whole = (scene.backups / f"{name}.tar.gz").read_bytes()
        (remote / f"{name}.tar.gz").write_bytes(whole[: 1 << 17])
        assert name in service.backup().copied
        assert (remote / f"{name}.tar.gz").read_bytes() == whole
        assert name not in service.backup().copied

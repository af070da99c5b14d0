"""The sample application has what makes restores hard, is reproducible, and its proof sees every kind of damage."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from resurgam.demo.application import create_application, differences, fingerprint, wreck
from resurgam.postgres.embedded import EmbeddedServer, packaged_installations
from tests.clusters import Database


def test_a_plain_owner_can_create_it_on_every_version(
    pg: EmbeddedServer, owned_database: Database, tmp_path: Path
) -> None:
    packaged = pg.version in packaged_installations()
    if packaged:
        with psycopg.connect(pg.dsn(owned_database.name)) as session:
            session.execute("CREATE EXTENSION vector")
    made = create_application(owned_database.dsn, tmp_path / "app", reports=300, seed=3)
    assert made.vectors == packaged
    found = fingerprint(owned_database.dsn, made.folder)
    assert found.tables["public.reports"] == (300, found.tables["public.reports"][1])
    assert len(found.large_objects) == 12
    assert sum(1 for text in found.files.values() if text.startswith("-")) == made.files
    assert any("CREATE TRIGGER report_announced" in text for text in found.objects.values())


def test_the_same_seed_gives_the_same_application(pg16: EmbeddedServer, database: Database, tmp_path: Path) -> None:
    first = create_application(database.dsn, tmp_path / "one", reports=100, seed=5)
    before = fingerprint(database.dsn, first.folder)
    with psycopg.connect(database.dsn) as session:
        session.execute("DROP SCHEMA public, audit CASCADE")
        session.execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
        session.execute("CREATE SCHEMA public AUTHORIZATION pg_database_owner")
    second = create_application(database.dsn, tmp_path / "two", reports=100, seed=5)
    after = fingerprint(database.dsn, second.folder)
    # Large objects get new numbers, and the attachments' rows name them.
    assert after.files == before.files
    assert {name for name in before.tables if before.tables[name] != after.tables[name]} == {"public.attachments"}


def test_equal_when_nothing_changed_and_after_dump_and_load(
    pg16: EmbeddedServer, database: Database, owned_database: Database, tmp_path: Path
) -> None:
    made = create_application(database.dsn, tmp_path / "app", reports=200)
    before = fingerprint(database.dsn, made.folder)
    assert differences(before, fingerprint(database.dsn, made.folder)) == []
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", made.folder, copy], check=True)
    dump = subprocess.run([pg16.bin / "pg_dump", "-d", database.dsn], check=True, capture_output=True).stdout
    load: list[str | Path] = [
        pg16.bin / "psql",
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        pg16.dsn(owned_database.name),
    ]
    subprocess.run(load, input=dump, check=True, stdout=subprocess.DEVNULL)
    # Owner, comment and settings of the database itself are in no dump: exactly these differ.
    found = differences(before, fingerprint(pg16.dsn(owned_database.name), copy))
    assert len(found) == 1
    assert found[0].startswith("objects: 'database this database'")


def test_the_accident_is_seen_in_rows_objects_and_files(database: Database, tmp_path: Path) -> None:
    made = create_application(database.dsn, tmp_path / "app", reports=200)
    before = fingerprint(database.dsn, made.folder)
    damage = wreck(database.dsn, made.folder)
    assert damage.reports == 180
    found = differences(before, fingerprint(database.dsn, made.folder))
    for part in (
        "tables: 'public.reports'",
        "tables: 'public.busiest_months' is missing",
        "large objects:",
        "objects: 'view public.busiest_months' is missing",
        "files: 'uploads/2025/01' is missing",
        "files: 'uploads/odd names/-rf' was",
    ):
        assert any(line.startswith(part) for line in found), part


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE public.reports SET dose_mgy = 1 WHERE id = 97",
        "SELECT nextval('public.invoice_number')",
        "ALTER TABLE public.reports DISABLE TRIGGER report_announced",
        "REVOKE SELECT ON public.templates FROM PUBLIC",
        "DROP INDEX public.reports_open_idx",
        "ALTER TYPE public.report_status ADD VALUE 'lost'",
        "REFRESH MATERIALIZED VIEW public.reports_per_month",
        "COMMENT ON SCHEMA audit IS 'changed'",
        "SELECT lo_put(min(scan), 0, 'x') FROM public.attachments",
    ],
)
def test_the_smallest_change_is_seen(database: Database, tmp_path: Path, statement: str) -> None:
    made = create_application(database.dsn, tmp_path / "app", reports=100)
    if "REFRESH" in statement:
        with psycopg.connect(database.dsn) as session:
            session.execute("DELETE FROM public.reports WHERE id = 2")
    before = fingerprint(database.dsn, made.folder)
    with psycopg.connect(database.dsn, autocommit=True) as session:
        session.execute(statement.encode())
    assert 1 <= len(differences(before, fingerprint(database.dsn, made.folder))) <= 2


def test_changes_of_files_are_seen_one_by_one(database: Database, tmp_path: Path) -> None:
    made = create_application(database.dsn, tmp_path / "app", reports=20)
    before = fingerprint(database.dsn, made.folder)
    template = made.folder / "backend/templates/template_02.html"
    os.utime(template, ns=(1, 1))
    (made.folder / "uploads/empty.txt").chmod(0o600)
    link = made.folder / "uploads/latest"
    link.unlink()
    link.symlink_to("elsewhere")
    shutil.rmtree(made.folder / "backend/templates/drafts")
    names = {line.split("'")[1] for line in differences(before, fingerprint(database.dsn, made.folder))}
    assert names == {
        "backend/templates",
        "backend/templates/drafts",
        "backend/templates/template_02.html",
        "uploads",
        "uploads/empty.txt",
        "uploads/latest",
    }

"""The sample application: a small radiology department, as Resurgam's users have it.

One database with what makes restores hard (foreign keys in a circle, triggers, identity columns, large objects,
partitions, materialized views on materialized views, odd names and values), and a folder with configuration,
templates and uploads. The same seed gives the same application.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from resurgam.demo import sample_rows
from resurgam.demo.proof import Fingerprint, differences, fingerprint
from resurgam.demo.sample_files import ENV_SECRET, create_files

__all__ = [
    "ENV_SECRET",
    "Application",
    "Damage",
    "Fingerprint",
    "create_application",
    "create_database",
    "differences",
    "fingerprint",
    "wreck",
]

_LARGE_OBJECTS = 12
_Session = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Application:
    """What was made: `vectors` says whether pgvector was there; `files` counts regular files."""

    dsn: str
    folder: Path
    reports: int
    files: int
    vectors: bool


@dataclass(frozen=True, slots=True)
class Damage:
    """What an accident took: rows of the reports table, and files."""

    reports: int
    files: int


def create_application(dsn: str, folder: Path, reports: int = 2000, seed: int = 1) -> Application:
    """Fill an empty database and make the folder.

    The role of `dsn` must own the database. Embeddings are pgvector's where the extension is there already or the
    role may create it (it is not a trusted extension everywhere), else arrays.
    """
    vectors = create_database(dsn, reports, seed)
    files = create_files(folder, reports, random.Random(f"files {seed}"))  # noqa: S311
    return Application(dsn, folder, reports, files, vectors)


def create_database(dsn: str, reports: int, seed: int) -> bool:
    """The database's part of create_application; returns whether embeddings are pgvector's."""
    with psycopg.connect(dsn) as session:
        vectors = _create_vector_extension(session)
        embedding = f"public.vector({sample_rows.EMBEDDING_SIZE})" if vectors else "real[]"
        _run(session, "sample_schema.sql", {"{embedding}": embedding})
        _fill(session, reports, seed, vectors)
        index = ""
        if vectors:
            index = (
                "CREATE INDEX similar_cases_embedding_idx ON public.similar_cases USING ivfflat"
                f" (embedding public.vector_cosine_ops) WITH (lists = {max(1, min(100, reports // 1000))});"
            )
        _run(session, "sample_objects.sql", {"{embedding_index}": index})
        _describe_database(session)
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("ANALYZE")
    return vectors


def _create_vector_extension(session: _Session) -> bool:
    found = session.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    if found is None:
        return False
    try:
        with session.transaction():
            session.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def _run(session: _Session, name: str, values: dict[str, str]) -> None:
    script = Path(__file__).with_name(name).read_text()
    for placeholder, value in values.items():
        script = script.replace(placeholder, value)
    session.execute(script.encode())


def _fill(session: _Session, reports: int, seed: int, vectors: bool) -> None:
    rng = random.Random(seed)  # noqa: S311
    people = max(5, min(500, reports // 40))
    _copy(
        session, "public.users (id, email, full_name, role, password_hash, created_at)", sample_rows.users(rng, people)
    )
    _copy(session, "public.templates (id, name, modality, body, author_id)", sample_rows.templates(rng, people))
    _copy(
        session,
        "public.reports (id, accession, patient_name, modality, status, findings, impression, measurements,"
        " dose_mgy, author_id, template_id, created_at)",
        sample_rows.reports(rng, reports, people),
    )
    _copy(
        session,
        "public.notifications (id, user_id, report_id, kind, payload, read_at)",
        sample_rows.notifications(rng, reports, people),
    )
    _copy(
        session,
        "public.similar_cases (report_id, similar_id, similarity, embedding)",
        sample_rows.similar_cases(rng, reports, vectors),
    )
    _copy(session, "audit.access_log (at, user_id, report_id, action)", sample_rows.access_log(rng, reports, people))
    _copy(session, 'public."Odd Names"', sample_rows.odd_names())
    _attach(session, rng, reports)
    session.execute(
        """UPDATE public.users u SET last_report_id = r.id
           FROM (SELECT author_id, max(id) AS id FROM public.reports GROUP BY author_id) r WHERE r.author_id = u.id"""
    )
    for table in ("users", "templates", "reports", "notifications"):
        session.execute(
            sql.SQL("SELECT setval(pg_get_serial_sequence({}, 'id'), greatest(1, (SELECT max(id) FROM {})))").format(
                sql.Literal(f"public.{table}"), sql.Identifier("public", table)
            )
        )
    session.execute("SELECT nextval('public.invoice_number') FROM generate_series(1, 7)")


def _copy(session: _Session, target: str, blocks: Iterator[bytes]) -> None:
    with session.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN".encode()) as copy:
        for block in blocks:
            copy.write(block)


def _attach(session: _Session, rng: random.Random, reports: int) -> None:
    """Large objects, one of them empty and one of more than a page of pg_largeobject."""
    for number in range(min(_LARGE_OBJECTS, reports)):
        content = rng.randbytes(number * 9_973)
        session.execute(
            """INSERT INTO public.attachments (report_id, path, thumbnail, scan)
               VALUES (%s, %s, %s, lo_from_bytea(0, %s))""",
            (number + 1, f"uploads/scan {number}.dcm", rng.randbytes(64) if number % 2 else None, content),
        )


def _describe_database(session: _Session) -> None:
    """Properties that no dump holds; only the database's owner may set them."""
    name = session.info.dbname
    for statement in ("COMMENT ON DATABASE {} IS 'The sample application'", "ALTER DATABASE {} SET work_mem = '8MB'"):
        session.execute(sql.SQL(statement).format(sql.Identifier(name)))


def wreck(dsn: str, folder: Path) -> Damage:
    """The accident of the manual's scenario 3: most reports, what hung on them, and the uploads are deleted."""
    with psycopg.connect(dsn) as session:
        session.execute("UPDATE public.users SET last_report_id = NULL")
        deleted = session.execute("DELETE FROM public.reports WHERE id % 10 <> 0").rowcount
        session.execute("UPDATE public.templates SET body = 'oops' WHERE id % 2 = 0")
        session.execute("SELECT lo_unlink(oid) FROM (SELECT min(oid) AS oid FROM pg_largeobject_metadata) m")
        session.execute("DROP MATERIALIZED VIEW public.busiest_months")
    uploads = folder / "uploads"
    gone = sum(1 for path in (uploads / "2025").rglob("*") if path.is_file())
    shutil.rmtree(uploads / "2025")
    (uploads / "odd names" / "-rf").write_text("overwritten by mistake")
    (folder / "backend" / "templates" / "template_01.html").unlink()
    return Damage(deleted, gone + 2)

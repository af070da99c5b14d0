"""Dumps that somebody else wrote: nothing runs on the machine through us, the live side stays, nobody gains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resurgam.demo.proof import differences
from resurgam.errors import ResurgamError
from resurgam.operations.restore import Parts
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.service import Service
from tests.clusters import create_database, create_owner, drop_database, drop_owner
from tests.operations.made_archives import FOREIGN, dump_archive, native_archive
from tests.operations.scene import Scene, scene_for

_NAME = "radiology_backup_20240101_000000"
_BEGIN = "-- PostgreSQL database dump\n\nSET standard_conforming_strings = on;\nCREATE TABLE public.t (id integer);\n"
_END = "\nCOPY public.t (id) FROM stdin;\n1\n2\n\\.\n\n-- PostgreSQL database dump complete\n"

# Seen by reading: refused before anything is made. WITNESS is a file that a command would make, LIVE the database.
_REFUSED = {
    "shell": "\\! touch WITNESS",
    "shell after a statement": "SELECT 1; \\! touch WITNESS",
    "shell within a statement": "SELECT 'x' \\! touch WITNESS\n;",
    "shell after unrestrict": "\\restrict a\n\\unrestrict a\n\\! touch WITNESS",
    "wrong unrestrict": "\\restrict a\n\\unrestrict b\n\\! touch WITNESS",
    "restrict that closes nothing": "\\unrestrict a\n\\! touch WITNESS",
    "a key that is more": "\\restrict a` touch WITNESS `",
    "copy by psql": "\\copy public.t from program 'touch WITNESS'",
    "include": "\\i /etc/passwd",
    "include relative": "\\ir ../../x",
    "output": "\\o |touch WITNESS",
    "query to a pipe": "SELECT 1 \\g |touch WITNESS",
    "gexec": "SELECT 'DROP DATABASE \"LIVE\"' \\gexec",
    "gset": "SELECT 1 AS x \\gset",
    "set by a command": "\\set x `touch WITNESS`",
    "environment": "\\setenv PAGER 'touch WITNESS'",
    "connect": "\\connect LIVE\nDROP TABLE public.users;",
    "connect with options": "\\c 'dbname=LIVE host=127.0.0.1'",
    "large object by psql": "\\lo_import /etc/passwd",
    "edit": "\\e",
    "copy to a program": "COPY public.t TO PROGRAM 'touch WITNESS';",
    "copy from a program": "COPY public.t FROM PROGRAM 'touch WITNESS';",
    "copy program in comments": "COPY/**/public.t/* FROM stdin */FROM--\nPROGRAM 'touch WITNESS';",
    "copy of a query": "COPY (SELECT 1) TO PROGRAM 'touch WITNESS';",
    "copy from a file": "COPY public.t FROM '/etc/passwd';",
    "copy to a file": "COPY public.t TO 'WITNESS';",
    "copy out": "COPY public.t TO stdout;",
    "file into a large object": "SELECT lo_import('/etc/passwd');",
    "large object into a file": "SELECT pg_catalog.lo_export(1, 'WITNESS');",
    "read a file": "SELECT pg_read_file('/etc/passwd');",
    "load a library": "LOAD 'WITNESS';",
    "alter system": "ALTER SYSTEM SET archive_command = 'touch WITNESS';",
    "drop the live database": 'COMMIT; DROP DATABASE "LIVE";',
    "drop it in comments": "DROP--\n/* /* */ */DATABASE LIVE;",
    "rename it": 'ALTER DATABASE "LIVE" RENAME TO gone;',
    "its settings": 'ALTER DATABASE "LIVE" SET search_path = evil;',
    "its rights": 'GRANT ALL ON DATABASE "LIVE" TO PUBLIC;',
    "a superuser": "CREATE ROLE intruder SUPERUSER LOGIN;",
    "a password": "ALTER ROLE postgres PASSWORD 'x';",
    "membership": "GRANT pg_execute_server_program TO PUBLIC;",
    "all that is owned": "REASSIGN OWNED BY CURRENT_USER TO pg_monitor;",
    "a prepared transaction": "BEGIN;\nCREATE TABLE x ();\nPREPARE TRANSACTION 'stuck';",
    "a subscription that connects": "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p;",
    "dblink": "SELECT dblink_exec('dbname=LIVE', 'DROP TABLE users');",
    "a language that is not there": "CREATE EXTENSION plpython3u;",
    "an encoding that hides quotes": "SET client_encoding = 'SJIS';\nSELECT '\x81\\'; \\! touch WITNESS';",
    "NUL": "SELECT 'a\0b';",
    "no end of a string": "SELECT 'DROP",
    "no end of a body": "DO $x$ BEGIN NULL; END $y$;",
    "no end of a comment": "/* /* */ SELECT 1;",
    "no end of a name": 'SELECT 1 AS "x',
    "an end that is not the end": "-- PostgreSQL database dump complete\n\nSELECT 'x",
}
# Seen by the server only, as it runs them; what a role without superuser rights may not do, it does not.
_HIDDEN = {
    "program in a block": "DO $$BEGIN EXECUTE 'COPY public.t TO PROGRAM ''touch WITNESS'''; END$$;",
    "file in a block": "DO $$BEGIN EXECUTE 'COPY public.t TO ''WITNESS'''; END$$;",
    "role in a block": "DO $$BEGIN EXECUTE 'CREATE ROLE intruder SUPERUSER'; END$$;",
    "membership in a block": "DO $$BEGIN EXECUTE 'GRANT pg_execute_server_program TO ' || current_user; END$$;",
    "database in a block": "DO $$BEGIN EXECUTE 'DROP DATABASE \"LIVE\"'; END$$;",
    "another role": "SET ROLE postgres;\nCREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';",
    "another session user": "SET SESSION AUTHORIZATION postgres;\nCOPY public.t FROM stdin;\n\\.\nRESET ROLE;\n"
    "DO $$BEGIN EXECUTE 'COPY public.t TO PROGRAM ''touch WITNESS'''; END$$;",
    "owner that is a superuser": "CREATE FUNCTION trap() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS "
    "$$BEGIN EXECUTE 'COPY public.t TO PROGRAM ''touch WITNESS'''; RETURN 1; END$$;\n"
    "ALTER FUNCTION trap() OWNER TO postgres;\nSELECT trap();",
    "machine code": "CREATE FUNCTION f(text) RETURNS int LANGUAGE c AS '/lib/x86_64-linux-gnu/libc.so.6', 'system';",
    "built-in code": "CREATE FUNCTION f(oid, text) RETURNS int LANGUAGE internal AS 'be_lo_export';",
    "index": "CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$BEGIN"
    " EXECUTE 'COPY public.t TO PROGRAM ''touch WITNESS'''; RETURN 1; END$$;\n"
    "INSERT INTO public.t VALUES (3);\nCREATE INDEX ON public.t (f(id));",
    "insert": "INSERT INTO public.t VALUES (lo_export(1, 'WITNESS'));",
    "copy that fires a trigger": "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
    " EXECUTE 'COPY public.t TO PROGRAM ''touch WITNESS'''; RETURN NEW; END$$;\n"
    "CREATE TRIGGER f BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION f();",
    "event trigger": "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';\n"
    "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f();",
    "quoting": "DO $$BEGIN PERFORM set_config('standard_conforming_strings', 'off', false); END$$;\nSELECT '\\';",
    "encoding": "DO $$BEGIN PERFORM set_config('client_encoding', 'SJIS', false); END$$;",
    "rows that are taken back": "BEGIN;\nCOPY public.t (id) FROM stdin;\n7\n\\.\nROLLBACK;",
    "rows that vanish": "CREATE RULE r AS ON INSERT TO public.t DO INSTEAD NOTHING;\nCREATE FUNCTION f()"
    " RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';\nCREATE TRIGGER f BEFORE INSERT ON public.t"
    " FOR EACH ROW EXECUTE FUNCTION f();",
    "an open transaction": "BEGIN;\nCREATE TABLE x ();",
    "variables of psql": "SELECT :'x';",
    "sessions of ours": "DO $$BEGIN PERFORM pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE usename = current_user AND pid <> pg_backend_pid() AND datname = current_database(); RAISE 'over'; END$$;",
}
# Done as it says, in the scratch database, where it harms nobody: the drill passes.
_HARMLESS = {
    "names of the catalog": "CREATE TABLE public.pg_class (oid int);\nCREATE TABLE public.pg_database (datname int);\n"
    "CREATE FUNCTION public.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';"
    "\nCREATE FUNCTION public.int4pl(int, int) RETURNS int LANGUAGE sql AS 'SELECT 0';\n"
    "CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = name, FUNCTION = namene);",
    "a path with public before the catalog": "SET search_path = public, pg_catalog;\n"
    "CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';\n"
    "RESET search_path;",
    "a path that the database keeps": "CREATE SCHEMA evil;\nCREATE VIEW evil.pg_class AS SELECT 1 AS nothing;\n"
    "CREATE AGGREGATE evil.count(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '1000');\n"
    "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = evil, pg_catalog', current_database()); END$$;",
    "a commit of nothing": "COMMIT;\nROLLBACK;",
    "comments that are not pg_dump's": "--\n-- Name: t; Type: TABLE DATA; Schema: public; Owner: postgres\n--\n"
    "-- Dependencies: 1 2 3\nCREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$SELECT '\n--\n"
    "-- Name: x; Type: ACL; Schema: public; Owner: postgres\n--\n\\! touch WITNESS\n'::text$$;",
    "commands that are data": "CREATE TABLE public.d (x text);\nCOPY public.d (x) FROM stdin;\n"
    '\\\\! touch WITNESS\nDROP DATABASE "LIVE";\n-- PostgreSQL database dump complete\n\\.',
    "comments on the live database": "COMMENT ON DATABASE \"LIVE\" IS 'taken';",
    "a view of what may not be seen": "CREATE MATERIALIZED VIEW public.v AS SELECT pg_read_file('/etc/passwd') AS x"
    " WITH NO DATA;\n"
    "REFRESH MATERIALIZED VIEW public.v;",
}


# What only a superuser can do.
_ATTEMPTS = (
    "COPY (SELECT 1) TO PROGRAM 'touch WITNESS'",
    "COPY (SELECT 1) TO 'WITNESS'",
    "CREATE TEMP TABLE passwd AS SELECT pg_read_file('/etc/passwd')",
    "ALTER SYSTEM SET archive_command = 'touch WITNESS'",
    "DO 'BEGIN PERFORM lo_import(''/etc/passwd''); END'",
    "DO 'BEGIN PERFORM lo_export(lo_create(0), ''WITNESS''); END'",
    "CREATE FUNCTION public.c() RETURNS int LANGUAGE c AS '/lib/x86_64-linux-gnu/libc.so.6', 'system'",
    "CREATE EXTENSION plpython3u",
    "CREATE EXTENSION file_fdw",
    "CREATE EXTENSION dblink",
    "CREATE FUNCTION public.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
    " CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.e()",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "SET LOCAL session_preload_libraries = 'WITNESS'",
    "SET LOCAL log_statement = 'none'",
    "CREATE ROLE intruder SUPERUSER",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "GRANT pg_execute_server_program TO PUBLIC",
    "CREATE FUNCTION public.trap() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';"
    " ALTER FUNCTION public.trap() OWNER TO postgres",
    "DO 'BEGIN PERFORM pg_reload_conf(); END'",
    "CREATE PUBLICATION all_of_it FOR ALL TABLES",
    "DO 'BEGIN PERFORM rolpassword FROM pg_authid; END'",
    "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false)",
)


@pytest.fixture(scope="module", params=["superuser", "owner"])
def victim(request: pytest.FixtureRequest, pg16: EmbeddedServer, tmp_path_factory: Any) -> Iterator[Scene]:
    """An application that no test changes."""
    role = None if request.param == "superuser" else create_owner(pg16)
    made = create_database(pg16, role)
    yield scene_for(made, tmp_path_factory.mktemp("victim"), role).make(reports=5)
    drop_database(pg16, made.name)
    if role is not None:
        drop_owner(pg16, role)


def _state(scene: Scene) -> list[Any]:
    """What belongs to the whole server: who may what, and what is set."""
    queries = (
        "SELECT * FROM pg_authid ORDER BY oid",
        "SELECT oid, rolconfig FROM pg_roles ORDER BY oid",
        "SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members ORDER BY 1, 2",
        "SELECT setdatabase, setrole, setconfig::text FROM pg_db_role_setting ORDER BY 1, 2",
        "SELECT objoid, description FROM pg_shdescription ORDER BY 1",
        "SELECT datname, datdba, datacl::text FROM pg_database ORDER BY 1",
        "SELECT gid FROM pg_prepared_xacts",
        "SELECT slot_name FROM pg_replication_slots",
        "SELECT name, setting FROM pg_file_settings ORDER BY 1",
        "SELECT subname FROM pg_subscription",
    )
    return [scene.administer(query) for query in queries]


def _dump(scene: Scene, piece: str, witness: Path) -> bytes:
    text = _BEGIN + piece.replace("WITNESS", str(witness)).replace("LIVE", scene.database) + _END
    return text.encode("latin-1")


def _unharmed(scene: Scene, before: tuple[Any, Any], witness: Path) -> None:
    assert differences(before[0], scene.seen()) == []
    assert _state(scene) == before[1]
    assert scene.leftovers() == [] and scene.databases() == set()
    assert not witness.exists()
    assert [path.name for path in scene.backups.iterdir() if "drill_" in path.name] == []


@pytest.fixture
def before(victim: Scene) -> tuple[Any, Any]:
    victim.backups.mkdir(exist_ok=True)
    for archive in victim.backups.glob("*.tar.gz"):
        archive.unlink()
    return victim.seen(), _state(victim)


def test_what_reading_finds_is_refused(victim: Scene, before: tuple[Any, Any], tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with victim.service() as service:
        for number, (kind, piece) in enumerate(_REFUSED.items()):
            dump = _dump(victim, piece, witness)
            native_archive(victim, _NAME, dump)
            dump_archive(victim, dump)
            # Unpacking a foreign archive takes its time, and what reads the dump is the same.
            for name in (_NAME, FOREIGN)[: 2 if number % 5 == 0 else 1]:
                with pytest.raises(ResurgamError) as caught:
                    service.restore(name, Parts(True, False, False))
                assert "Loading failed" not in caught.value.message, kind
            assert victim.databases() == set() and not witness.exists(), kind
    _unharmed(victim, before, witness)


def _drilled(service: Service) -> tuple[str, str, str]:
    """Its outcome, what is wrong, and what was not loaded."""
    try:
        report = service.drill(_NAME).report
    except ResurgamError as error:
        return "error", error.message, ""
    assert report["rights"] in (None, "plain")
    return report["outcome"], " ".join(report["differences"]), " ".join(report["not_loaded"])


# Left out by name where a superuser's drill is done by a login of ours, rather than refused.
_NAMED = {
    "another session user": "",
    "owner that is a superuser": "The owner postgres",
    "machine code": "functions in c",
    "built-in code": "functions in internal",
    "event trigger": "event triggers are a superuser's",
}


def test_what_a_plain_role_may_not_do_fails(victim: Scene, before: tuple[Any, Any], tmp_path: Path) -> None:
    """In a drill also where DB_USER is a superuser, whom a restore would believe."""
    witness = tmp_path / "witness"
    superuser = victim.role == victim.server.superuser
    passed = {}
    with victim.service() as service:
        for kind, piece in _HIDDEN.items():
            native_archive(victim, _NAME, _dump(victim, piece, witness))
            outcome, _, named = _drilled(service)
            if outcome == "passed":
                passed[kind] = named
            assert victim.databases() == set() and not witness.exists(), kind
            if not superuser:
                with pytest.raises(ResurgamError):
                    service.restore(_NAME, Parts(True, False, False))
    wrong = {kind for kind, named in passed.items() if not superuser or kind not in _NAMED or _NAMED[kind] not in named}
    assert wrong == set()
    _unharmed(victim, before, witness)


def test_a_drill_of_what_a_superuser_would_do_finds_no_power(
    victim: Scene, before: tuple[Any, Any], tmp_path: Path
) -> None:
    """Each attempt is made in a block that swallows the refusal and writes down what it could do: nothing."""
    witness = tmp_path / "witness"
    body = "".join(
        f"BEGIN EXECUTE $x${attempt.replace('WITNESS', str(witness))}$x$; INSERT INTO public.got VALUES ('{number}'); "
        "EXCEPTION WHEN OTHERS THEN NULL; END;\n"
        for number, attempt in enumerate(_ATTEMPTS)
    )
    piece = (
        "CREATE TABLE public.got (what text);\nINSERT INTO public.got VALUES ('the block ran');\n"
        f"RESET ROLE;\nRESET SESSION AUTHORIZATION;\nDO $b$BEGIN\n{body}END$b$;\n"
    )
    native_archive(victim, _NAME, _dump(victim, piece, witness))
    asked = tmp_path / "drill.toml"
    asked.write_text(
        '[[sql]]\nquery = "SELECT string_agg(what, \' \') FROM public.got"\nexpect = "the block ran"\n'
        '[[sql]]\nquery = "SELECT NOT bool_or(rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication)'
        " FROM pg_roles WHERE rolname IN (current_user, session_user) AND rolname LIKE '%_drill_%'\"\n"
        if victim.role == victim.server.superuser
        else '[[sql]]\nquery = "SELECT string_agg(what, \' \') FROM public.got"\nexpect = "the block ran"\n'
    )
    asked.chmod(0o600)
    with victim.service(DRILL_FILE=str(asked)) as service:
        assert _drilled(service)[:2] == ("passed", "")
    _unharmed(victim, before, witness)


def test_what_only_harms_the_scratch_database_passes(victim: Scene, before: tuple[Any, Any], tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with victim.service() as service:
        found = {}
        for kind, piece in _HARMLESS.items():
            native_archive(victim, _NAME, _dump(victim, piece, witness))
            found[kind] = _drilled(service)
            assert victim.databases() == set() and not witness.exists(), kind
    assert {kind: what for kind, what in found.items() if what[:2] != ("passed", "")} == {}
    _unharmed(victim, before, witness)

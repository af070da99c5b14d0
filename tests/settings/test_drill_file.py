"""Where drills restore, and drill.toml: read whole, or refused with all that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgam.errors import SettingsError
from resurgam.settings.drill_file import (
    CommandAssertion,
    HttpAssertion,
    References,
    SqlAssertion,
    read_drill_file,
)
from tests.settings.loading import load, refusal

WHOLE = """
[[sql]]
name = "as many reports as ever"
query = "SELECT count(*) FROM reports"
between = [1, 100]
timeout = "5s"

[[sql]]
query = "SELECT true"

[[references]]
column = "app.reports.attachment"
files = "uploads/"
strip = "/media/"

[[command]]
run = ["./smoke.sh", "-q"]

[[http]]
url = "http://127.0.0.1:8123/healthz"
start = ["./run.sh"]
status = 204
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "drill.toml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_every_kind_of_assertion(tmp_path: Path) -> None:
    assert read_drill_file(write(tmp_path, WHOLE)) == (
        SqlAssertion("as many reports as ever", 5.0, "SELECT count(*) FROM reports", True, (1, 100)),
        SqlAssertion("SELECT true", 60.0, "SELECT true"),
        References("app.reports.attachment in uploads", 60.0, "app", "reports", "attachment", "uploads", "/media/"),
        CommandAssertion("./smoke.sh -q", 60.0, ("./smoke.sh", "-q")),
        HttpAssertion("http://127.0.0.1:8123/healthz", 60.0, "http://127.0.0.1:8123/healthz", 204, ("./run.sh",)),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[sql]]\n", "lacks, or does not know, query"),
        ("[[sql]]\nquery = 1\n", "a text as query"),
        ('[[sql]]\nquery = "x"\nbetween = [2, 1]\n', "between"),
        ('[[sql]]\nquery = "x"\nbetween = [1, 2]\nexpect = 1\n', "both expect and between"),
        ('[[sql]]\nquery = "x"\nbetwen = [1, 2]\n', "betwen"),
        ('[[references]]\ncolumn = "attachment"\nfiles = "uploads"\n', "TABLE.COLUMN"),
        ("[[command]]\nrun = []\n", "PROGRAM"),
        ('[[http]]\nurl = "ftp://x"\n', "http or https"),
        ('[[http]]\nurl = "http://x/"\nstatus = 20\n', "status"),
        ('[[sql]]\nquery = "x"\ntimeout = "soon"\n', "duration"),
        ("[[wish]]\n", "not one of"),
        ("sql = 3\n", "must be written as"),
        ("[[sql", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_drill_file(write(tmp_path, text))


def test_a_file_that_others_can_write_to_is_not_believed(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE)
    path.chmod(0o666)
    with pytest.raises(SettingsError, match="others can write to it"):
        read_drill_file(path)
    with pytest.raises(SettingsError, match="can not be read"):
        read_drill_file(tmp_path / "absent.toml")


def test_where_drills_restore(app: Path) -> None:
    rules = load(app).drills
    assert (rules.database, rules.embedded, rules.file, rules.each_backup) == (None, False, None, False)
    rules = load(
        app,
        DRILL_DATABASE_URL="postgresql://drill:pw@elsewhere:5433/",
        DRILL_SERVER="embedded",
        DRILL_FILE="drill.toml",
        DRILL_EACH_BACKUP="yes",
    ).drills
    assert rules.database is not None and rules.database.password is not None
    assert (rules.database.host, rules.database.port, rules.database.name) == ("elsewhere", 5433, "postgres")
    assert (rules.embedded, rules.file, rules.each_backup) == (True, app / "drill.toml", True)
    assert "DRILL_DATABASE_URL" in refusal(app, DRILL_DATABASE_URL="mysql://x")
    assert "pw-planted" not in refusal(app, DRILL_DATABASE_URL="mysql://x:pw-planted@h/")
    assert "DRILL_SERVER" in refusal(app, DRILL_SERVER="elsewhere")
    assert any("DRILL_FIEL" in warning for warning in load(app, DRILL_FIEL="x").warnings)

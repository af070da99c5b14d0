"""Schedule, access, messages, hooks, health: read, checked, and never shown where they are secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgam.settings import inherited
from resurgam.settings.service_model import Window
from tests.settings.loading import load, refusal

KEY = "k" * 32
PLANTED = "planted-secret-77"


def test_nothing_runs_by_itself_unless_told(app: Path) -> None:
    assert load(app, BACKUP_VERIFY_SCHEDULE="0 5 * * 1").schedule.tasks == {}
    schedule = load(app, BACKUP_SCHEDULE="0 2 * * *").schedule
    assert schedule.tasks == {"backup": "0 2 * * *", "verify": "0 4 * * 0", "drill": "0 5 1 * *"}
    assert (schedule.jitter, schedule.catch_up) == (0.0, 86400.0)
    alone = load(app, BACKUP_SCHEDULE="@daily", BACKUP_VERIFY_SCHEDULE="none", BACKUP_DRILL_SCHEDULE="none").schedule
    assert alone.tasks == {"backup": "0 0 * * *"}


@pytest.mark.parametrize("cron", ["2 am", "0 25 * * *", "* * * * * *", "0 0 30 2 *", "0 2 * *", "\x00"])
def test_times_that_are_none(app: Path, cron: str) -> None:
    assert "BACKUP_SCHEDULE" in refusal(app, BACKUP_SCHEDULE=cron)


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../etc/passwd", "/etc/passwd", "x" * 300])
def test_zones_that_are_none(app: Path, zone: str) -> None:
    assert "BACKUP_SCHEDULE_TIMEZONE" in refusal(app, BACKUP_SCHEDULE="@daily", BACKUP_SCHEDULE_TIMEZONE=zone)


def test_blackout(app: Path) -> None:
    given = load(app, BACKUP_BLACKOUT="07:30-18:00, Fri-Mon 22:00-06:00, Sun 00:00-24:00").schedule.blackout
    assert given == (
        Window(frozenset(range(7)), 450, 1080),
        Window(frozenset({4, 5, 6, 0}), 1320, 360),
        Window(frozenset({6}), 0, 1440),
    )


@pytest.mark.parametrize("window", ["7:30-18:00", "25:00-26:00", "10:00-10:00", "Foo 10:00-11:00", "10:61-11:00"])
def test_windows_that_are_none(app: Path, window: str) -> None:
    assert "BACKUP_BLACKOUT" in refusal(app, BACKUP_BLACKOUT=window)


def test_jwt(app: Path) -> None:
    assert load(app).jwt is None
    rules = load(app, BACKUP_JWT_SECRET=KEY).jwt
    assert rules is not None and (rules.algorithm, rules.admin_claim, rules.admin_value) == ("HS256", "role", "admin")
    rules = load(app, BACKUP_JWT_JWKS="keys.json", BACKUP_JWT_ADMIN="realm.roles=backup=x").jwt
    assert rules is not None and rules.secret is None
    assert (rules.jwks, rules.algorithm, rules.admin_value) == (str(app / "keys.json"), "RS256", "backup=x")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("BACKUP_JWT_SECRET", {"BACKUP_JWT_SECRET": "short"}),
        ("BACKUP_JWT_SECRET", {"BACKUP_JWT_SECRET": KEY, "BACKUP_JWT_JWKS": "keys.json"}),
        ("BACKUP_JWT_ALGORITHM", {"BACKUP_JWT_SECRET": KEY, "BACKUP_JWT_ALGORITHM": "none"}),
        ("BACKUP_JWT_ALGORITHM", {"BACKUP_JWT_SECRET": KEY, "BACKUP_JWT_ALGORITHM": "RS256"}),
        ("BACKUP_JWT_ALGORITHM", {"BACKUP_JWT_JWKS": "keys.json", "BACKUP_JWT_ALGORITHM": "HS256"}),
        ("BACKUP_JWT_JWKS", {"BACKUP_JWT_JWKS": "http://keys.example/jwks"}),
        ("BACKUP_JWT_ADMIN", {"BACKUP_JWT_SECRET": KEY, "BACKUP_JWT_ADMIN": "admin"}),
    ],
)
def test_access_that_would_be_none(app: Path, name: str, given: dict[str, str]) -> None:
    assert name in refusal(app, **given)


def test_channels(app: Path) -> None:
    urls = f"mailtos://u:{PLANTED}@h/?to=a,b=c  error=slack://{PLANTED}/x\nbackup,info=json://h:1/p"
    messages = load(app, BACKUP_NOTIFY_URLS=urls, BACKUP_PING_URL=f"https://hc.example/{PLANTED}").messages
    assert [(one.least, one.events) for one in messages.channels] == [
        ("warning", None),
        ("error", None),
        ("info", frozenset({"backup"})),
    ]
    assert messages.channels[0].url.reveal().startswith("mailtos://")
    assert PLANTED not in repr(messages)


@pytest.mark.parametrize("urls", [f"everything=json://{PLANTED}", PLANTED, f"json://ok urgent,{PLANTED}=json://h"])
def test_a_channel_that_is_none_is_not_shown(app: Path, urls: str) -> None:
    told = refusal(app, BACKUP_NOTIFY_URLS=urls)
    assert "BACKUP_NOTIFY_URLS" in told and PLANTED not in told
    assert PLANTED not in refusal(app, BACKUP_PING_URL=PLANTED)


def test_hooks(app: Path) -> None:
    hooks = load(app, BACKUP_HOOK_BEFORE="/bin/a 'b c'", BACKUP_HOOK_AFTER_DATABASE="x", BACKUP_HOOK_TIMEOUT="9s").hooks
    assert hooks.commands == {("before", ""): ("/bin/a", "b c"), ("after", "database"): ("x",)}
    assert hooks.timeout == 9
    assert "BACKUP_HOOK_BEFORE" in refusal(app, BACKUP_HOOK_BEFORE="'open")


def test_a_hook_from_a_file_that_others_write_is_refused(app: Path) -> None:
    env = app / ".env"
    env.write_text("BACKUP_HOOK_BEFORE=/tmp/evil\n")
    env.chmod(0o666)
    assert "BACKUP_HOOK_BEFORE" in refusal(app)


def test_everything_wrong_is_told_together(app: Path) -> None:
    told = refusal(app, BACKUP_SCHEDULE="x", BACKUP_ON_SHUTDOWN="wait", BACKUP_EXPECTED_GROWTH="-1")
    assert all(name in told for name in ("BACKUP_SCHEDULE", "BACKUP_ON_SHUTDOWN", "BACKUP_EXPECTED_GROWTH"))


def test_what_is_shown_of_the_settings_holds_no_secret(app: Path) -> None:
    settings = load(app, BACKUP_NOTIFY_URLS=f"json://{PLANTED}", BACKUP_JWT_SECRET=PLANTED * 3)
    assert PLANTED not in str(settings.public()) + repr(settings)


def test_what_a_child_is_given() -> None:
    passes = {"PATH": "/bin", "LANG": "C", "TZ": "UTC", "PGSSLMODE": "require", "PGSERVICEFILE": "/x", "HOME": "/h"}
    withheld = ("DB_PASSWORD", "PGPASSWORD", "SECRET_KEY", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "BACKUP_JWT_SECRET")
    assert inherited({**passes, **dict.fromkeys(withheld, PLANTED)}) == passes

"""Evidence: the figures of a period, failures included, on a page that needs nothing else."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from resurgam.errors import ResurgamError
from resurgam.operations.evidence import QUARTER, gather_evidence
from resurgam.operations.evidence_page import evidence_page
from resurgam.policy.drills import digest_of
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import create_database, drop_database
from tests.operations.backups import small_scene
from tests.operations.scene import Scene

_VOID = {"meta", "br", "hr"}


class Reader(HTMLParser):
    """Demands that tags are closed in order and that nothing is fetched; keeps the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe", "object")
        assert not {name for name, _ in attrs} & {"src", "href", "onload", "style"}
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> str:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == [] and "url(" not in page and "@import" not in page
    return " ".join(" ".join(reader.text).split())


@pytest.fixture(scope="module")
def scene(pg16: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A backup, its drill, a drill that failed, a verification, and a backup that failed."""
    made = create_database(pg16)
    scene = small_scene(made, tmp_path_factory.mktemp("evidence"))
    wish = scene.root / "drill.toml"
    wish.write_text('[[sql]]\nname = "<script>alert(\'x\')</script>"\nquery = "SELECT false"\n')
    wish.chmod(0o600)
    with scene.service() as service:
        name = service.backup().name
        service.verify(name)
        assert service.drill().passed
    with scene.service(DRILL_FILE=str(wish)) as service:
        assert not service.drill().passed
    with scene.service(DB_NAME="not_there") as service, pytest.raises(ResurgamError):
        service.backup()
    yield scene
    drop_database(pg16, made.name)


def gathered(scene: Scene, **shift: float) -> dict[str, Any]:
    with scene.service() as service:
        now = service.clock.now() + timedelta(**shift)
        return gather_evidence(service.state, "radiology", now - QUARTER, now, now, 172800.0)


def test_the_figures(scene: Scene) -> None:
    report = gathered(scene)
    assert report["counts"]["backup"] == {"ok": 1, "failed": 1}
    assert report["counts"]["drill"] == {"passed": 1, "failed": 1}
    assert report["counts"]["verify"] == {"ok": 1}
    passed, failed = report["drills"]
    assert (passed["intact"], passed["anchored"], failed["intact"], failed["anchored"]) == (True, True, True, True)
    assert passed["rows"] == 2000 and failed["differences"]
    assert report["rto"]["median_seconds"] == round(passed["rto_seconds"], 3)
    assert 0 <= report["rpo"]["longest_seconds"] < 600 and report["rpo"]["met"] is True
    assert report["audit"]["success"] and report["audit"]["last"]["digest"]
    digest = report.pop("digest")
    assert digest == digest_of(report) == digest_of(json.loads(json.dumps(report)))


def test_a_period_without_anything(scene: Scene) -> None:
    report = gathered(scene, days=-100)
    assert report["counts"]["backup"] == {} and report["rpo"]["longest_seconds"] is None
    assert "no restore was rehearsed" in read(evidence_page(report))


def test_the_time_since_the_last_backup_counts(scene: Scene) -> None:
    report = gathered(scene, days=10)
    assert report["rpo"]["met"] is False
    assert abs(report["rpo"]["longest_seconds"] - 864000) < 600
    assert "MORE than wanted" in read(evidence_page(report))


def test_the_page_holds_the_figures_and_escapes_what_others_wrote(scene: Scene) -> None:
    report = gathered(scene)
    page = evidence_page(report)
    text = read(page)
    assert "<script>" not in page and "<script>alert('x')</script>" in text
    for section in ("(ii)(A)", "(ii)(B)", "(ii)(C)", "(ii)(D)", "164.312(b)", "164.312(c)"):
        assert section in text
    for drill in report["drills"]:
        assert drill["digest"] in text
    assert report["digest"] in text and report["audit"]["last"]["digest"] in text
    assert '1 <span class="bad">failed</span>, 1 <span class="good">ok</span>' in page
    assert "not_there" in text and "2,000 rows" in text


def test_a_changed_drill_is_seen(scene: Scene) -> None:
    path: Path = scene.backups / "state.sqlite"
    with sqlite3.connect(path) as file:
        (kept,) = file.execute("SELECT report FROM drills WHERE id = 2").fetchone()
        file.execute("UPDATE drills SET report = json_set(report, '$.differences', json('[]')) WHERE id = 2")
    try:
        report = gathered(scene)
        assert not report["drills"][1]["intact"]
        assert "the kept report was changed" in read(evidence_page(report))
    finally:
        with sqlite3.connect(path) as file:
            file.execute("UPDATE drills SET report = ? WHERE id = 2", (kept,))

"""What deploy/ ships for Prometheus and Grafana: valid, and written to metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from resurgam.api.metrics import render
from resurgam.catalog.drills import Drill
from resurgam.policy.health import STATUSES
from resurgam.policy.health_facts import Disk, RemoteFacts, ScheduleFacts
from tests.policy.health_scenes import ago, judged, run, well

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus-alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana-dashboard.json"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing (.ci/tools test, as root)")
_METRIC = re.compile(r"resurgam_[a-z0-9_]+")
_SELECTOR = re.compile(r"(resurgam_[a-z0-9_]+)\{([^}]*)\}")


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load(ALERTS.read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def expressions() -> list[str]:
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return [rule["expr"] for rule in rules()] + panels


def answered() -> dict[str, set[str]]:
    """The metrics of an application that has everything, with the labels of each."""
    disk = Disk(1000, 9000)
    facts = replace(
        well(disk=disk, channels_failing=("mail",)),
        remote=RemoteFacts("/mnt/remote", disk=disk),
        schedule=ScheduleFacts(ago(seconds=1), {"backup": ago(hours=-2)}),
        last_success={"backup": run("ok", ago(hours=2))},
        last_drill=Drill(1, "radiology", ago(days=1), ago(days=1), "passed", 3.0, 60.0, {}, "", None),
    )
    found: dict[str, set[str]] = {}
    for line in render(judged(facts)).decode().splitlines():
        if not line.startswith("#"):
            name, _, labels = line.partition("{")
            found.setdefault(name, set()).update(re.findall(r"(\w+)=\"", labels))
    return found


def test_every_metric_and_label_that_is_used_is_there() -> None:
    there = answered()
    used = {name for text in expressions() for name in _METRIC.findall(text)}
    used |= set(_METRIC.findall(dashboard()["templating"]["list"][1]["definition"]))
    assert used
    assert used - set(there) == set()
    for text in expressions():
        for name, selector in _SELECTOR.findall(text):
            assert set(re.findall(r"(\w+) *=", selector)) <= there[name], text
            if name == "resurgam_health_status":
                assert set(re.findall(r'status="(\w+)"', selector)) <= set(STATUSES)


def test_every_alert_says_what_is_wrong_and_where_to_read_on() -> None:
    headings = re.findall(r"^#+ (\w+)$", (ROOT / "docs" / "monitoring.md").read_text(), re.MULTILINE)
    for rule in rules():
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        page, _, anchor = notes["runbook"].partition("#")
        assert page == "docs/monitoring.md"
        assert anchor == rule["alert"].lower()
        assert rule["alert"] in headings
    assert {rule["alert"] for rule in rules()} == set(headings) & {rule["alert"] for rule in rules()}


def test_the_dashboard_asks_the_data_source_that_is_chosen() -> None:
    board = dashboard()
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "application"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells


@needs_promtool
def test_prometheus_takes_the_rules() -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "check", "rules", ALERTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_each_alert_fires_when_it_should() -> None:
    assert PROMTOOL is not None
    file = Path(__file__).with_name("prometheus-alerts-test.yml")
    done = subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = file.read_text()
    assert [rule["alert"] for rule in rules() if rule["alert"] not in told] == []


@needs_promtool
def test_prometheus_takes_the_dashboards_expressions(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    records = [
        {"record": f"panel:{number}", "expr": text.replace("$application", "radiology")}
        for number, text in enumerate(expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    done = subprocess.run([PROMTOOL, "check", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_reads_the_answer_and_criticises_one_name_alone() -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=render(judged(well())), capture_output=True)
    # It takes the days, over which runs are counted, for the unit.
    told = done.stderr.decode().splitlines()
    assert [line for line in told if not line.startswith("resurgam_runs_30_days use base unit")] == []
    assert done.returncode in (0, 3)

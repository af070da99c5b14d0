"""`resurgam drill` and `resurgam evidence` as a user meets them: words, JSON, exit codes, files."""

from __future__ import annotations

import json

from tests.cli.commands import Scene


def test_a_drill_and_its_evidence(scene: Scene) -> None:
    name = scene.backup()
    done = scene.run("drill")
    assert done.code == 0, done.err
    assert f"The drill of {name}" in done.out and "passed" in done.out and "a restore would take" in done.out
    again = scene.run("drill", name, "--json")
    assert (again.code, again.json["success"], again.json["outcome"]) == (0, True, "passed")
    assert again.json["rto_seconds"] < 10
    page = scene.app.parent / "evidence.html"
    told = scene.run("evidence", "--out", str(page))
    assert told.code == 0 and str(page) in told.out
    assert again.json["digest"] in page.read_text()
    report = scene.run("evidence", "--json").json
    assert report["counts"]["drill"] == {"passed": 2}
    entries = scene.run("audit", "list", "--json").json
    assert report["digest"] in json.dumps(entries)
    assert scene.run("evidence").out.startswith("<!DOCTYPE html>")


def test_what_is_wrong(scene: Scene) -> None:
    assert scene.run("drill").code == 5
    assert scene.run("evidence", "--since", "soon").code == 2
    assert scene.run("evidence", "--since", "2026-02-01", "--until", "2026-01-01").code == 2
    scene.backup()
    wish = scene.app.parent / "drill.toml"
    wish.write_text('[[sql]]\nquery = "SELECT false"\n')
    wish.chmod(0o600)
    failed = scene.run("drill", DRILL_FILE=str(wish))
    assert failed.code == 1 and "found false, wanted true" in failed.out
    health = scene.run("health", "--json")
    assert health.code == 1 and "drill_failed" in {one["code"] for one in health.json["reasons"]}
    wish.write_text("nonsense")
    assert scene.run("drill", DRILL_FILE=str(wish)).code == 2

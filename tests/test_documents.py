"""The documents that people write by hand: what they point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resurgam import errors

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    text = _FENCE.sub("", document.read_text())
    heads = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCE.sub("", document.read_text())):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_architecture_names_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([\w/]+\.py)`", text))
    source = ROOT / "src" / "resurgam"
    modules = {str(path.relative_to(source)) for path in source.rglob("*.py") if path.name != "__init__.py"}
    modules |= {f"src/{path.name}" for path in (ROOT / "src").glob("*.py")}
    assert named == modules


def test_troubleshooting_explains_every_error_code() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    tree = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {kind.code for kind in tree if issubclass(kind, errors.ResurgamError)}
    assert {code for code in codes if f"\n| `{code}` |" not in text} == set()

"""Reads deploy/Dockerfile as a list of steps, for tests that look at them or carry them out without Docker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: `RUN`, and what stands behind it, continued lines joined."""

    instruction: str
    text: str


def steps() -> list[Step]:
    """All steps of all stages, in their order."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def only(instruction: str) -> str:
    """The text of the last step of that kind: the one that is in force."""
    return [step.text for step in steps() if step.instruction == instruction][-1]

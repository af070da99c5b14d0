"""What can be wrong with a repository, for health's rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from resurgam.policy.health_facts import HealthFacts, RepositoryFacts

# Where nobody could look, nobody can say that there is nothing.
_UNSEEN = frozenset({"folder_unreadable", "folder_hangs"})


def repository_reasons(facts: RepositoryFacts | None) -> Iterator[tuple[str, Literal["warning", "critical"], str, str]]:
    """Code, severity, sentence and hint. That there is no kit is a figure of health, and no reason: a passphrase that
    is kept needs none."""
    if facts is not None and facts.kit == "unproven":
        message = "The repository's recovery kit was never proven, and every backup fails until it is."
        yield "kit_unproven", "critical", message, "`resurgam keys kit --prove`"
    if facts is not None and facts.troubles and not facts.writes_only:
        message, hint = " ".join(facts.troubles), "`resurgam verify --all` says which backups are hurt."
        yield "repository_trouble", "warning", message, hint


def unseen(facts: HealthFacts) -> bool:
    """Whether there may be backups although none is listed: it could not be looked, or a write-only host took some."""
    blind = facts.repository is not None and facts.repository.writes_only and "backup" in facts.last_success
    return blind or any(trouble.code in _UNSEEN for trouble in facts.troubles)

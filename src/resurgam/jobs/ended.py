"""How an operation ended that raised nothing, in the words of the log and the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resurgam.counting import count_text
from resurgam.operations.inventory import megabytes

if TYPE_CHECKING:
    from resurgam.catalog.jobs import Outcome
    from resurgam.operations.backup import BackupResult
    from resurgam.operations.deletion import DeleteResult
    from resurgam.operations.drill import DrillResult
    from resurgam.operations.restore import RestoreResult
    from resurgam.operations.restore_beside import BesideResult
    from resurgam.operations.retention import PruneResult
    from resurgam.operations.undo import UndoResult
    from resurgam.operations.verify import VerifyResult
    from resurgam.operations.verify_all import VerifyAllResult

# Of a drill's differences, in a message; its evidence has all of them.
_TOLD = 5


@dataclass(frozen=True, slots=True)
class Ended:
    """How an operation ended that raised nothing: `line` for the log, `result` for whoever asks for the job later."""

    outcome: Outcome
    line: str
    result: Mapping[str, Any] = field(default_factory=dict)


def backup_ended(result: BackupResult) -> Ended:
    line = f"{result.name}, {megabytes(result.size)} MB in {result.seconds:.1f} s"
    told = {key: value for key, value in result.to_json().items() if key != "metadata"}  # the archive has it
    if result.failures:
        return Ended("degraded", f"{line}; {' '.join(result.failures)}", told)
    return Ended("ok", line, told)


def verify_ended(result: VerifyResult) -> Ended:
    return Ended("ok", f"sound: {count_text(result.total_files, 'file')}", result.to_json())


def verify_all_ended(result: VerifyAllResult) -> Ended:
    return Ended("ok", f"sound: {count_text(len(result.sound), 'backup')}", result.to_json())


def drill_ended(result: DrillResult) -> Ended:
    rto = f"{result.report['backup_name']}, restored in {result.report['rto_seconds']:.1f} s"
    if result.passed:
        return Ended("ok", rto, result.to_json())
    told = " ".join(result.report["differences"][:_TOLD])
    return Ended("failed", f"the drill of {result.report['backup_name']} failed: {told}", result.to_json())


def restore_ended(result: RestoreResult) -> Ended:
    return Ended("ok", f"{result.seconds:.1f} s", result.to_json())


def beside_ended(result: BesideResult) -> Ended:
    return Ended("ok", f"{len(result.made)} made beside, {result.seconds:.1f} s", result.to_json())


def undo_ended(result: UndoResult) -> Ended:
    return Ended("ok", f"{result.plan.what}, {result.seconds:.1f} s", result.to_json())


def prune_ended(result: PruneResult) -> Ended:
    if result.errors:
        return Ended("degraded", " ".join(result.errors), result.to_json())
    return Ended("ok", f"{len(result.deleted)} deleted", result.to_json())


def delete_ended(result: DeleteResult) -> Ended:
    return Ended("ok", f"from {', '.join(result.deleted)}", result.to_json())

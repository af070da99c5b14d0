"""The one error tree: stable codes, a message that says what happened, a hint that names the next step.

    ResurgamError
    ├── UsageError            usage             the command itself was wrong
    ├── SettingsError         settings          settings are malformed
    ├── FeatureMissing        feature_missing   a setting asks for what this version does not have
    ├── AuthError             unauthorized      who calls is not known: no credential, or none that counts
    ├── ForbiddenError        forbidden         who calls is known, and may not do this
    ├── NotFoundError         not_found         nothing of that name
    ├── BusyError             busy              another run of this application is at work
    ├── SourceError           source            something that should be captured could not be
    │   ├── DatabaseError     database          the server refused, went away, or is not what we need
    │   ├── ClientToolError   client_tool       pg_dump is missing, too old, or failed
    │   ├── HookError         hook              a command of the user's that belongs to a backup failed
    │   └── FileSourceError   file_source       a configured path is missing or a file unreadable
    ├── StorageError          storage           a folder is not writable, the disk is full
    │   ├── ObjectExists      object_exists     a store holds another object of that key
    │   ├── ObjectMissing     object_missing    a store holds no object of that key
    │   └── StoreUnreachable  store_unreachable a store gave no answer, or none for now; trying again may help
    ├── RepositoryError       repository        not a repository, another one, or of a later version
    ├── KeyRefused            key               the key is wrong, missing, or may not do this
    ├── CollectionRefused     collection        a prune of a repository stopped before it removed anything
    ├── ArchiveError          archive           an archive can not be trusted
    │   ├── DamagedError      damaged           truncated, bit-flipped, renamed, empty
    │   └── HostileError      hostile           absolute paths, `..`, devices, duplicates, bombs
    ├── RestoreRefused        restore_refused   the plan found problems; nothing was touched
    ├── RestoreFailed         restore_failed    it failed on the way; the live side is as it was
    ├── VerifyFailed          verify_failed     the backup is not what it says
    ├── ListenError           listen            the API's port can't be had
    └── StateError            state             catalog or state file unusable

Messages are whole sentences without secrets. Codes never change once released.
"""

from __future__ import annotations

from typing import ClassVar


class ResurgamError(Exception):
    """Base of everything Resurgam raises on purpose.

    `message` says what happened and what is untouched, `hint` what to do next (empty if nothing helps).
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ResurgamError):
    code = "usage"


class SettingsError(ResurgamError):
    code = "settings"


class FeatureMissing(ResurgamError):
    code = "feature_missing"


class AuthError(ResurgamError):
    code = "unauthorized"


class ForbiddenError(ResurgamError):
    code = "forbidden"


class NotFoundError(ResurgamError):
    code = "not_found"


class BusyError(ResurgamError):
    code = "busy"


class SourceError(ResurgamError):
    code = "source"


class DatabaseError(SourceError):
    code = "database"


class ClientToolError(SourceError):
    code = "client_tool"


class HookError(SourceError):
    code = "hook"


class FileSourceError(SourceError):
    code = "file_source"


class StorageError(ResurgamError):
    code = "storage"


class ObjectExists(StorageError):
    code = "object_exists"


class ObjectMissing(StorageError):
    code = "object_missing"


class StoreUnreachable(StorageError):
    """Whether a change took place is not known."""

    code = "store_unreachable"


class RepositoryError(ResurgamError):
    code = "repository"


class KeyRefused(ResurgamError):
    code = "key"


class CollectionRefused(ResurgamError):
    code = "collection"


class ArchiveError(ResurgamError):
    code = "archive"


class DamagedError(ArchiveError):
    code = "damaged"


class HostileError(ArchiveError):
    code = "hostile"


class RestoreRefused(ResurgamError):
    """The plan found problems; `problems` holds all of them, one sentence each."""

    code = "restore_refused"

    def __init__(self, problems: tuple[str, ...], hint: str = "") -> None:
        super().__init__("The restore was refused and nothing was touched: " + " ".join(problems), hint)
        self.problems = problems


class RestoreFailed(ResurgamError):
    code = "restore_failed"


class VerifyFailed(ResurgamError):
    code = "verify_failed"


class ListenError(ResurgamError):
    code = "listen"


class StateError(ResurgamError):
    code = "state"

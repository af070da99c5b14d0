"""Which store a URL means."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from resurgam.clock import SystemClock
from resurgam.errors import FeatureMissing, SettingsError
from resurgam.stores.object_folder import FolderStore
from resurgam.stores.object_retry import Retrying
from resurgam.stores.objects import ObjectStore

_CLOUDS = {"s3": "s3", "s3a": "s3", "gs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
_KINDS = "An absolute path, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX."


def open_store(url: str, environment: Mapping[str, str], tell: Callable[[str], None] | None = None) -> ObjectStore:
    """The store that `url` names; nothing is asked of it yet. `environment` holds the services' own variables; `tell`
    gets a sentence where it lets one wait for its first answer.

    SettingsError if it names none; FeatureMissing if what it needs is not installed. No message repeats the
    address, which may hold a password.
    """
    if url.startswith("/"):
        return FolderStore(Path(url))
    try:
        parts = urlsplit(url)
    except ValueError:
        raise SettingsError("The repository's address is not a URL.", _KINDS) from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingsError(
            "The repository's address holds more than a place: no password or key may be in it.",
            "Keys belong into the service's own variables, such as AWS_ACCESS_KEY_ID. " + _KINDS,
        )
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return FolderStore(Path(unquote(parts.path)))
    if cloud := _CLOUDS.get(parts.scheme):
        return _cloud(cloud, parts.netloc, parts.path.strip("/"), environment, tell)
    raise SettingsError("The repository's address is no place that Resurgam can keep a repository in.", _KINDS)


def _cloud(
    scheme: str, bucket: str, prefix: str, environment: Mapping[str, str], tell: Callable[[str], None] | None
) -> ObjectStore:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
        raise SettingsError(f"What follows {scheme}:// is no bucket's name.", _KINDS)
    if re.search(r"//|(^|/)\.\.?(/|$)", prefix):
        raise SettingsError(f"The prefix of {scheme}://{bucket} has an empty segment, or one of dots.", _KINDS)
    try:
        from resurgam.stores.object_cloud import CloudPlace, CloudStore
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "obstore":
            raise
        raise FeatureMissing(
            f"{scheme}:// needs a package that is not installed.", "pip install 'resurgam[s3]'"
        ) from None
    return Retrying(CloudStore(CloudPlace(scheme, bucket, prefix), environment), SystemClock(), tell=tell)

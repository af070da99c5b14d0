"""Objects in S3 and what speaks its language, in Google Cloud Storage, or in Azure (docs/ordering.md, sentence 41).

A put is one request that creates or fails (`If-None-Match: *`), so that of two writers one wins; such a request is no
multipart upload, and may have 5 GiB. A put whose answer was lost, or that says that the key is taken, is settled by
reading the object back. Nothing is retried here (object_retry.py), so that there is one policy.
Messages hold the service's code and status, never its whole answer: that can hold signatures.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from resurgam.errors import ObjectExists, ObjectMissing, SettingsError, StorageError, StoreUnreachable
from resurgam.stores.object_cloud_settings import (
    azure_variables,
    gcs_variables,
    s3_endpoint,
    s3_variables,
    sends_in_plain,
)
from resurgam.stores.objects import KEY, StoredObject, checked

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, RetryConfig, S3Config

_Client = S3Store | GCSStore | AzureStore
_PROBE = ".clock"  # no KEY, so that no listing shows it
_PAGE = 1000
_REASONS = {
    "dns error": "its name is not known",
    "timedout": "time-out",
    "timeout": "time-out",
    "timed out": "time-out",
    "connection refused": "connection refused",
    "connection reset": "connection reset",
    "certificate": "its certificate is not trusted",
    "kind: connect": "no connection",
    "missingaccount": "the account is not named",
    "missingsecretaccesskey": "the secret access key is missing",
    "missingaccesskeyid": "the access key id is missing",
    "opencredentials": "the credentials can not be read",
    "imds": "no credentials",
}
# Throttled, overloaded, timed out, or (409) at odds with another request of the same moment.
_PASSING = frozenset({408, 409, 429, 500, 502, 503, 504})
# S3, GCS and Azure promise that a listing shows every put that returned before it; a server of one's own may not.
_OWN_SERVER_STALENESS = 60.0


@dataclass(frozen=True, slots=True)
class CloudPlace:
    """Where: `scheme` is s3, gs or az; `prefix` has no slash at its ends and may be empty."""

    scheme: str
    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


class CloudStore:
    """An ObjectStore in a bucket. `environment` holds the service's own variables (AWS_*, GOOGLE_*, AZURE_*)."""

    def __init__(self, place: CloudPlace, environment: Mapping[str, str]) -> None:
        self.url = place.url
        self._bucket = place.bucket
        self.staleness = _OWN_SERVER_STALENESS if place.scheme == "s3" and s3_endpoint(environment) else 0.0
        self._client = _client(place, environment)

    def prepare(self) -> None:
        pass  # a bucket is made by its owner, with the rules that he wants

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        checked(key)
        try:
            with self._told(key):
                obstore.put(self._client, key, memoryview(data).cast("B"), mode="create", use_multipart=False)
        except (ObjectExists, StoreUnreachable):
            # Taken, perhaps by ourselves: the answer to an earlier try may have been lost. Or nothing is known.
            if not self._holds(key, data):
                raise

    def _holds(self, key: str, data: bytes | bytearray | memoryview) -> bool:
        try:
            return self.get(key) == data
        except ObjectMissing:
            return False

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        checked(key)
        with self._told(key):
            if length == 0:
                obstore.head(self._client, key)
                return b""
            try:
                if length is not None:
                    return bytes(obstore.get_range(self._client, key, start=offset, length=length))
                if offset:
                    return bytes(obstore.get(self._client, key, options={"range": {"offset": offset}}).bytes())
                return bytes(obstore.get(self._client, key).bytes())
            except BaseError as error:
                if _status(error) == 416:  # the range begins at the end, or past it
                    return b""
                raise

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        # Services list by whole segments here; what is finer is sorted out below.
        folder, _, _ = prefix.rpartition("/")
        found: list[StoredObject] = []
        with self._told(prefix):
            for page in obstore.list(self._client, folder or None, chunk_size=_PAGE):
                for meta in page:
                    if KEY.fullmatch(meta["path"]) and meta["path"].startswith(prefix):
                        found.append(StoredObject(meta["path"], meta["size"], meta["last_modified"].timestamp()))
        found.sort(key=attrgetter("key"))
        return iter(found)

    def delete(self, key: str) -> None:
        checked(key)
        with suppress(ObjectMissing), self._told(key):  # S3 does not tell, the others do
            obstore.delete(self._client, key)

    def time(self) -> float:
        # One object, written again and again: a host that may not delete can ask too.
        with self._told(_PROBE):
            obstore.put(self._client, _PROBE, secrets.token_bytes(16), mode="overwrite", use_multipart=False)
            return obstore.head(self._client, _PROBE)["last_modified"].timestamp()

    def sweep(self) -> int:
        return 0  # a put is one request: nothing is left behind

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        pass

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """What the service answers, as errors of ours."""
        try:
            yield
        except AlreadyExistsError:
            raise ObjectExists(f"There is another {key} in {self.url} already; nothing was overwritten.") from None
        except FileNotFoundError as error:
            if _code(error) in ("NoSuchBucket", "ContainerNotFound"):
                raise self._no_bucket() from None
            raise ObjectMissing(f"There is no {key} in {self.url}.") from None
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise self._refused(error) from None
        except (BaseError, ValueError, OSError) as error:
            raise self._failed(error) from None

    def _no_bucket(self) -> StorageError:
        return StorageError(f"There is no bucket {self._bucket} for {self.url}.", "Make it, or correct its name.")

    def _refused(self, error: Exception) -> StorageError:
        return StorageError(
            f"{self.url} refused the request ({_code(error) or 'permission denied'}).",
            "Are the keys (AWS_ACCESS_KEY_ID and so on) right, and may they list, read, write and delete there?",
        )

    def _failed(self, error: Exception) -> StorageError:
        status, code = _status(error), _code(error)
        if code in ("NoSuchBucket", "ContainerNotFound"):
            return self._no_bucket()
        if status in (401, 403):
            return self._refused(error)
        what = " ".join(filter(None, (str(status or ""), code))) or _reason(error)
        # Without a status there was no whole answer, unless the client itself refused.
        if isinstance(error, ValueError) or (status is not None and status not in _PASSING):
            return StorageError(f"{self.url} did not do what was asked ({what}).")
        return StoreUnreachable(f"{self.url} gave no usable answer ({what}).", "Is it reachable from here?")


def _client(place: CloudPlace, environment: Mapping[str, str]) -> _Client:
    prefix = place.prefix or None
    # A pack of 64 MiB takes its time on a slow line; a line that is dead is told by `read_timeout`.
    options: ClientConfig = {"connect_timeout": "10s", "read_timeout": "2m", "timeout": "1h"}
    if sends_in_plain(environment):
        options["allow_http"] = True
    once: RetryConfig = {"max_retries": 0}
    try:
        if place.scheme == "s3":
            # A bucket with Object Lock wants a checksum.
            s3 = cast("S3Config", {"aws_checksum_algorithm": "SHA256", **s3_variables(environment)})
            return S3Store(place.bucket, prefix=prefix, config=s3, client_options=options, retry_config=once)
        if place.scheme == "gs":
            gcs = cast("GCSConfig", gcs_variables(environment))
            return GCSStore(place.bucket, prefix=prefix, config=gcs, client_options=options, retry_config=once)
        azure = cast("AzureConfig", azure_variables(environment))
        return AzureStore(place.bucket, prefix=prefix, config=azure, client_options=options, retry_config=once)
    except (BaseError, ValueError) as error:
        raise SettingsError(
            f"{place.url} can not be used: the service's own settings are not right ({_reason(error)}).",
            "They are the variables AWS_*, GOOGLE_* or AZURE_*.",
        ) from None


def _status(error: Exception) -> int | None:
    found = re.search(r"non-2xx status code: (\d{3})", str(error))
    return int(found[1]) if found else None


def _code(error: Exception) -> str:
    found = re.search(r"<Code>(\w{1,60})</Code>", str(error))
    return found[1] if found else ""


def _reason(error: Exception) -> str:
    """Which kind of failure, in words of our own."""
    text = str(error).lower()
    for sign, reason in _REASONS.items():
        if sign in text:
            return reason
    return type(error).__name__

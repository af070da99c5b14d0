"""Which store a URL means, and what is refused without a word that could be a secret."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resurgam.errors import FeatureMissing, ResurgamError, SettingsError
from resurgam.stores.object_folder import FolderStore
from resurgam.stores.object_opening import open_store

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/srv/backups", "/srv/backups"),
        ("/srv/with blank%20#?", "/srv/with blank%20#?"),
        ("file:///srv/with%20blank", "/srv/with blank"),
        ("file://localhost/srv", "/srv"),
    ],
)
def test_folders(url: str, path: str) -> None:
    store = open_store(url, {})
    assert isinstance(store, FolderStore)
    assert store.path == Path(path)
    assert store.url == path


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3a://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("az://container/a", "az://container/a"),
        ("abfs://container", "az://container"),
    ],
)
def test_clouds(url: str, known: str) -> None:
    environment = {**KEYS, "AZURE_STORAGE_ACCOUNT_NAME": "account", "AZURE_STORAGE_ACCOUNT_KEY": "a2V5"}
    store = open_store(url, environment)
    assert store.url == known
    assert store.staleness == 0.0
    assert open_store(url, {**environment, "AWS_ENDPOINT_URL": "http://own.example"}).staleness == (
        60.0 if known.startswith("s3") else 0.0
    )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relative/folder",
        "./folder",
        "~/folder",
        "file:relative",
        "file://host/srv",
        "ftp://host/folder",
        "sftp://host/folder",
        "s3://",
        "s3:///prefix",
        "s3://bucket/a//b",
        "s3://bucket/../other",
        "s3://[",
        "s3://user:hunter2@bucket/prefix",
        "https://user:hunter2@host/x",
        "s3://hunter2@bucket",
        "s3://user:hunter2",
        "s3://user:hunter2/prefix",
        "az://container?sig=hunter2",
        "gs://bucket#hunter2",
        "hunter2",
        "hunter2:",
        "user:hunter2",
    ],
)
def test_everything_else_is_refused_without_repeating_secrets(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_store(url, KEYS)
    assert "hunter2" not in caught.value.message + caught.value.hint
    assert "s3://" in caught.value.message + caught.value.hint


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [
        name for name in sys.modules if name.partition(".")[0] == "obstore" or name.endswith("object_cloud")
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(FeatureMissing) as caught:
        open_store("s3://bucket", KEYS)
    assert "pip install 'resurgam[s3]'" in caught.value.hint
    assert isinstance(open_store("/srv", {}), FolderStore)


def test_a_cloud_without_what_it_needs_says_so() -> None:
    with pytest.raises(ResurgamError, match="the account is not named"):
        open_store("az://container", {})
    with pytest.raises(ResurgamError, match="the secret access key is missing"):
        open_store("s3://bucket", {"AWS_ACCESS_KEY_ID": "key"})

"""What a cloud does beyond the contract: answers that get lost, refusals, AWS's own settings (ordering.md, 41)."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path

import pytest

from resurgam.errors import ObjectExists, SettingsError, StorageError, StoreUnreachable
from resurgam.stores.object_cloud import CloudPlace, CloudStore
from resurgam.stores.object_cloud_settings import s3_endpoint, s3_variables
from resurgam.stores.object_retry import Retrying
from tests.s3_server import S3Server
from tests.stores.clocks import StillClock
from tests.stores.losing_proxy import LosingProxy


def _place(server: S3Server) -> CloudPlace:
    return CloudPlace("s3", server.bucket, server.place().split("/", 3)[3])


def test_sentence_41_a_put_whose_answer_was_lost_is_settled_by_reading_back(s3_server: S3Server) -> None:
    place = _place(s3_server)
    with LosingProxy(s3_server.endpoint) as proxy:
        store = CloudStore(place, {**s3_server.environment, "AWS_ENDPOINT_URL": proxy.endpoint})
        proxy.lose_answers = 1
        store.put("outcomes/1", b"committed" * 10000)
        assert proxy.lost == 1
        assert CloudStore(place, s3_server.environment).get("outcomes/1") == b"committed" * 10000
        proxy.lose_answers = 1
        with pytest.raises((ObjectExists, StoreUnreachable)):
            store.put("outcomes/1", b"abandoned")
        proxy.lose_requests = 1
        with pytest.raises(StoreUnreachable):
            store.put("outcomes/2", b"never arrives")
        assert [one.key for one in store.list()] == ["outcomes/1"]


def test_sentence_41_a_put_creates_and_carries_the_checksum_that_object_lock_wants(s3_server: S3Server) -> None:
    with LosingProxy(s3_server.endpoint) as proxy:
        store = CloudStore(_place(s3_server), {**s3_server.environment, "AWS_ENDPOINT_URL": proxy.endpoint})
        store.put("packs/ab/1", bytes(6 << 20))
    (head,) = proxy.heads
    assert head.startswith("put ")
    assert "\r\nif-none-match: *" in head
    assert "\r\nx-amz-checksum-sha256: " in head


def test_retries_end_what_a_bad_line_begins(s3_server: S3Server) -> None:
    with LosingProxy(s3_server.endpoint) as proxy:
        environment = {**s3_server.environment, "AWS_ENDPOINT_URL": proxy.endpoint}
        clock = StillClock()
        store = Retrying(CloudStore(_place(s3_server), environment), clock)
        proxy.lose_requests, proxy.lose_answers = 3, 2
        store.put("outcomes/1", b"committed")
        assert store.get("outcomes/1") == b"committed"
        assert proxy.lost == 4, "three requests, and one answer that was settled"
        assert len(clock.slept) == 3


def test_wrong_keys_and_buckets_are_told_apart_and_hold_no_secret(s3_server: S3Server) -> None:
    place, environment = _place(s3_server), s3_server.environment
    wrong = CloudStore(place, {**environment, "AWS_SECRET_ACCESS_KEY": "hunter2"})
    elsewhere = CloudStore(CloudPlace("s3", "nobodys", ""), environment)
    for store, said in ((wrong, "refused"), (elsewhere, "no bucket nobodys")):
        for call in (store.list, partial(store.get, "a/1"), partial(store.get, "a/1", 5, 5)):
            with pytest.raises(StorageError, match=said) as caught:
                call()
            assert type(caught.value) is StorageError
            told = caught.value.message + caught.value.hint
            assert "hunter2" not in told and "Signature=" not in told and "\n" not in told
            assert caught.value.__cause__ is None
    with pytest.raises(StorageError, match="refused"):
        wrong.put("a/1", b"")
    with pytest.raises(StorageError, match="refused"):
        wrong.delete("a/1")


def test_a_server_that_is_not_there_is_unreachable(s3_server: S3Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        environment = {**s3_server.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        store = CloudStore(_place(s3_server), environment)
        for call in (lambda: store.put("a/1", b""), lambda: store.get("a/1"), store.list, store.time):
            with pytest.raises(StoreUnreachable, match="no usable answer"):
                call()


def test_aws_files_are_read_where_the_environment_holds_no_key(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = D\naws_secret_access_key = d%d\n"
        "[other]\naws_access_key_id=O\naws_secret_access_key=o\n"
    )
    (tmp_path / ".aws/config").write_text("[default]\nregion=eu-central-1\n[profile other]\nendpoint_url=http://own\n")
    home = {"HOME": str(tmp_path)}
    assert s3_variables(home) == {
        "aws_access_key_id": "D",
        "aws_secret_access_key": "d%d",
        "aws_region": "eu-central-1",
    }
    other = {**home, "AWS_PROFILE": "other", "AWS_REGION": "us-east-2"}
    assert s3_variables(other)["aws_access_key_id"] == "O"
    assert s3_variables(other)["aws_region"] == "us-east-2"
    assert s3_endpoint(other) == "http://own"
    both = {**home, "AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "e"}
    assert s3_variables(both) == {"aws_access_key_id": "E", "aws_secret_access_key": "e"}
    moved = {**home, "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"), "AWS_CONFIG_FILE": "/nowhere"}
    assert s3_variables(moved) == {}
    (tmp_path / ".aws/credentials").write_text("hunter2\n")
    with pytest.raises(SettingsError) as caught:
        s3_variables(home)
    assert "hunter2" not in caught.value.message


def test_keys_of_aws_files_open_a_real_bucket(s3_server: S3Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(
        f"[tests]\naws_access_key_id={s3_server.environment['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key={s3_server.environment['AWS_SECRET_ACCESS_KEY']}\n"
    )
    environment = {"HOME": str(tmp_path), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "file"), "AWS_PROFILE": "tests"}
    environment |= {"AWS_ENDPOINT_URL_S3": s3_server.endpoint, "AWS_EXECUTION_ENV": "unknown to the client"}
    store = CloudStore(_place(s3_server), environment)
    store.put("a/1", b"1")
    assert store.get("a/1") == b"1"
    assert store.staleness == 60.0


def test_asking_for_the_time_leaves_one_small_object_however_often(s3_server: S3Server) -> None:
    place = _place(s3_server)
    store = CloudStore(place, s3_server.environment)
    for _ in range(3):
        store.time()
    above = CloudStore(CloudPlace("s3", place.bucket, ""), s3_server.environment)
    pages = list(above._client.list(place.prefix))
    assert [meta["path"] for page in pages for meta in page] == [f"{place.prefix}/.clock"]

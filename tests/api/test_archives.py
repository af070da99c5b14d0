"""Downloads, whole, in ranges and resumed; and what stands in an archive."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from tests.api.calling import Api, is_error
from tests.archive.trees import file, folder, write_archive
from tests.operations.made_archives import foreign_archive

PATHS = [f"files/uploads/{number:03}.txt" for number in range(25)]


@pytest.fixture
def stored(with_backup: tuple[Api, str]) -> tuple[Api, str, bytes]:
    api, name = with_backup
    return api, f"/api/backups/{name}/archive", (api.scene.backups / f"{name}.tar.gz").read_bytes()


def test_a_download_is_the_archive(stored: tuple[Api, str, bytes]) -> None:
    api, path, whole = stored
    answer = api.get(path)
    assert answer.content == whole and answer.status_code == 200
    assert answer.headers["content-length"] == str(len(whole))
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"].endswith('.tar.gz"')
    assert api.audited()[-1][1] == "download"


def test_head_tells_of_a_download_without_one(stored: tuple[Api, str, bytes]) -> None:
    api, path, whole = stored
    answer = api.call("HEAD", path, headers={"Range": "bytes=0-9"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(whole))
    assert answer.headers["etag"] == api.get(path).headers["etag"]
    assert api.client.head(path).status_code == 401
    assert api.call("HEAD", path, "viewer").status_code == 403


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-0", 0, 1), ("0-", 0, None), ("100-199", 100, 200), ("-50", -50, None), ("10-99999999999", 10, None)],
)
def test_a_range(stored: tuple[Api, str, bytes], asked: str, first: int, last: int | None) -> None:
    api, path, whole = stored
    answer = api.get(path, headers={"Range": f"bytes={asked}"})
    assert answer.status_code == 206 and answer.content == whole[first:last]
    begin = first % len(whole)
    assert answer.headers["content-range"] == f"bytes {begin}-{begin + len(answer.content) - 1}/{len(whole)}"


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=a-b", ""])
def test_a_range_that_is_none_gives_all(stored: tuple[Api, str, bytes], asked: str) -> None:
    api, path, whole = stored
    answer = api.get(path, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, whole)


def test_a_range_behind_the_end(stored: tuple[Api, str, bytes]) -> None:
    api, path, whole = stored
    for asked in (f"bytes={len(whole)}-", "bytes=-0"):
        answer = api.get(path, headers={"Range": asked})
        is_error(answer, 416, "range")
        assert answer.headers["content-range"] == f"bytes */{len(whole)}"


def test_a_broken_download_goes_on_only_with_the_same_file(stored: tuple[Api, str, bytes]) -> None:
    api, path, whole = stored
    with api.client.stream("GET", path, headers={"Authorization": f"Bearer {api.tokens['admin']}"}) as answer:
        tag, part = answer.headers["etag"], next(answer.iter_raw(1000))
    rest = api.get(path, headers={"Range": f"bytes={len(part)}-", "If-Range": tag})
    assert rest.status_code == 206 and part + rest.content == whole
    changed = api.get(path, headers={"Range": f"bytes={len(part)}-", "If-Range": '"another"'})
    assert changed.status_code == 200 and changed.content == whole


def test_contents_by_folder_and_page(api: Api) -> None:
    name = "radiology_backup_20250104_143022"
    api.scene.backups.mkdir(exist_ok=True)
    plan = [folder("files"), folder("files/uploads"), *(file(path, b"x" * 7) for path in PATHS)]
    write_archive(api.scene.backups, [*plan, file(b"files/uploads/\xff\n.txt", b"odd")], name)
    path = f"/api/backups/{name}/contents"

    def look(**asked: Any) -> Any:
        return api.get(path, "viewer", params=asked).json()

    assert [(one["name"], one["kind"]) for one in look()["entries"]][-1] == ("files", "folder")
    assert [one["path"] for one in look(path="files")["entries"]] == ["files/uploads"]
    first = look(path="/files/uploads/", limit=10)
    assert [one["path"] for one in first["entries"]] == PATHS[:10]
    assert first["entries"][0] | {"mtime": ""} == {
        "path": PATHS[0],
        "name": "000.txt",
        "kind": "file",
        "size": 7,
        "mtime": "",
        "mode": "0640",
        "target": None,
    }
    second = look(path="files/uploads", limit=10, cursor=first["next_cursor"])
    too_long = api.get(path, params={"path": "a/" * 9000})
    is_error(too_long, 422, "validation")
    assert too_long.json()["problems"][0].startswith("path: ")
    third = look(path="files/uploads", limit=10, cursor=second["next_cursor"])
    names = [one["path"] for page in (first, second, third) for one in page["entries"]]
    assert names == [*PATHS, "files/uploads/\\xff\\x0a.txt"] and third["next_cursor"] is None
    for wrong in ("files/nothing", "../..", "files/uploads/000.txt", "fil"):
        is_error(api.get(path, params={"path": wrong}), 404, "not_found")


@pytest.mark.parametrize("folders", [True, False])
def test_contents_of_a_foreign_archive(api: Api, folders: bool) -> None:
    api.scene.backups.mkdir(exist_ok=True)
    name = foreign_archive(api.scene, folders=folders).name.removesuffix(".tar.gz")
    top = api.get(f"/api/backups/{name}/contents").json()["entries"]
    assert {(one["name"], one["kind"]) for one in top} >= {("config", "folder"), ("files", "folder")}
    inner = api.get(f"/api/backups/{name}/contents", params={"path": "config"}).json()["entries"]
    assert ".env.example" in {one["name"] for one in inner}


def test_a_download_outlives_its_backup(api: Api) -> None:
    name = api.backup()
    archive = api.scene.backups / f"{name}.tar.gz"
    whole = archive.read_bytes()
    headers = {"Authorization": f"Bearer {api.tokens['admin']}"}
    with api.client.stream("GET", f"/api/backups/{name}/archive", headers=headers) as answer:
        assert api.call("DELETE", f"/api/backups/{name}").status_code == 200
        assert answer.read() == whole
    assert not archive.exists()


def test_what_took_an_archives_place_is_not_handed_out(api: Api) -> None:
    """Whoever may write to BACKUP_DIR could put a link there to what only the service may read; or a fifo, which holds
    who opens it."""
    folder_of = api.scene.backups
    secret = folder_of.parent / "secret"
    secret.write_text("PASSWORD=planted")
    name = "radiology_backup_20250101_000000"
    place = folder_of / f"{name}.tar.gz"
    place.symlink_to(secret)
    is_error(api.get(f"/api/backups/{name}/archive"), 422, "damaged")
    time.sleep(0.1)
    api.get("/api/backups/list")
    before = folder_of.stat()
    place.unlink()
    os.mkfifo(place)
    os.utime(folder_of, ns=(before.st_atime_ns, before.st_mtime_ns))  # the list is not read again
    is_error(api.get(f"/api/backups/{name}/archive"), 422, "damaged")

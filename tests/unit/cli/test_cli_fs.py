"""agent-world fs: what the commands ask a node, and how they print; folder sync against an index."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.cli.folder_sync import FolderSync, file_hash, local_files, plan
from agent_world.crypto.hashing import content_hash
from agent_world.distfs.manifest import ManifestBuilder
from agent_world.errors import ErrorCode, Refused, UsageError
from agent_world.wire.limits import BLOB_BYTES_MAX

Run = Callable[..., Any]
HASH = "ab" * 32
FILE = {"path": "a/b", "cid": "bafk", "content_hash": HASH, "size_bytes": 3, "updated_at_ms": 5}


def quiet(_size: int) -> None:
    pass


def answered(node: Any, target: str, answer: Any) -> list[Any]:
    sent: list[Any] = []

    def take(body: bytes) -> tuple[int, Any]:
        sent.append(body)
        return 200, answer

    node.answers[f"POST {target}"] = take
    return sent


def test_writing_a_file(run: Run, node: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one")
    answered(node, "/fs/file", FILE)
    ran = run("fs", "write", "a/b", tmp_path / "file", "--if-match", HASH, "--home", node.home, "--json")
    assert (ran.code, ran.json) == (0, FILE)
    assert node.asked[-1] == ("POST /fs/file", {"path": ["a/b"], "if_match": [HASH]})
    run("fs", "write", "a/b", tmp_path / "file", "--if-absent", "--home", node.home)
    assert node.asked[-1] == ("POST /fs/file", {"path": ["a/b"], "if_absent": ["1"]})
    both = run("fs", "write", "a/b", tmp_path / "file", "--if-absent", "--if-match", HASH, "--home", node.home)
    assert both.code == 64
    assert run("fs", "write", "a/b", tmp_path / "none", "--home", node.home).code == 64


def test_a_file_of_this_node_alone_is_said_to_be_one(run: Run, node: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one")
    answered(node, "/fs/copy", {**FILE, "is_local": True})
    for is_local in (True, False):
        answered(node, "/fs/file", {**FILE, "is_local": is_local})
        ran = run("fs", "write", "a/b", tmp_path / "file", "--home", node.home)
        assert ("a/b is this node's own" in ran.err) is is_local
    assert "lease acquire" in run("fs", "cp", "x", "a/b", "--home", node.home).err


def test_looking(run: Run, node: Any) -> None:
    node.answers["GET /fs/stat"] = 200, FILE
    assert run("fs", "stat", "a/b", "--home", node.home, "--json").json == FILE
    node.answers["GET /fs/files"] = 200, {"files": [FILE], "more": False}
    assert run("fs", "ls", "a", "--home", node.home).out == "a/b\n"
    assert node.asked[-1] == ("GET /fs/files", {"prefix": ["a"]})
    assert run("fs", "ls", "--home", node.home, "--json").json == [FILE]
    assert HASH in run("fs", "ls", "--long", "--home", node.home).out


def test_a_path_of_somebody_else_drives_no_terminal(run: Run, node: Any) -> None:
    node.answers["GET /fs/files"] = 200, {"files": [{**FILE, "path": "a\x1b[2J\nb"}], "more": False}
    assert run("fs", "ls", "--home", node.home).out == "a\\x1b[2J\\nb\n"
    assert run("fs", "ls", "--home", node.home, "--json").json[0]["path"] == "a\x1b[2J\nb"
    refusal = {"code": ErrorCode.NOT_FOUND.value, "message": "no\x1bsuch", "retryable": False, "rule": ""}
    node.answers["GET /fs/stat"] = 404, {"error": refusal}
    assert "no\\x1bsuch" in run("fs", "stat", "x", "--home", node.home).err


def test_removing_and_copying(run: Run, node: Any) -> None:
    sent = answered(node, "/fs/remove", {"path": "a/b", "removed": True})
    assert run("fs", "rm", "a/b", "--home", node.home).code == 0
    assert json.loads(sent[0]) == {"path": "a/b", "if_match": None}
    answered(node, "/fs/remove", {"path": "a/b", "removed": False})
    assert run("fs", "rm", "a/b", "--home", node.home).code == 1
    sent = answered(node, "/fs/copy", FILE)
    assert run("fs", "cp", "x", "a/b", "--if-absent", "--home", node.home).code == 0
    assert json.loads(sent[0]) == {"source": "x", "path": "a/b", "if_match": None, "if_absent": True}


@pytest.mark.parametrize("fault", ["missing_file_blob_hashes", "dangling_pin_hashes", "orphan_blob_hashes"])
def test_an_audit_with_faults_has_an_exit_code(run: Run, node: Any, fault: str) -> None:
    found: dict[str, Any] = {
        "total_indexed_files": 1, "total_pins": 2, "missing_file_blob_hashes": [], "dangling_pin_hashes": [],
        "orphan_blob_hashes": [], "orphan_bytes": 9, "omitted": 0, "is_clean": False,
    }  # fmt: skip
    answered(node, "/fs/audit", {"result": {**found, fault: [HASH]}})
    ran = run("fs", "audit", "--home", node.home)
    assert ran.code == (0 if fault == "orphan_blob_hashes" else 65)
    assert f"  {HASH}" in ran.out.splitlines()


def test_an_import_goes_on_until_it_is_done(run: Run, node: Any) -> None:
    answers = [{"done": False, "fetched": 3}, {"done": False, "fetched": 0}, {"done": True, "fetched": 4, "files": 9}]
    node.answers["POST /fs/import"] = lambda _body: (200, answers.pop(0))
    ran = run("fs", "import", HASH, 59, "--home", node.home, "--json")
    assert (ran.code, ran.json) == (0, {"files": 9, "fetched": 7})
    sent = answered(node, "/fs/export", {"content_hash": HASH, "size_bytes": 59})
    assert run("fs", "export", "--pin", "x", "--home", node.home, "--json").json["size_bytes"] == 59
    assert json.loads(sent[0]) == {"pin": "x"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "folder"
    (top / "sub").mkdir(parents=True)
    (top / "same").write_bytes(b"same")
    (top / "new").write_bytes(b"new")
    (top / "sub" / "other").write_bytes(b"other")
    (top / "link").symlink_to("same")
    (top / "folder link").symlink_to("sub")
    os.mkfifo(top / "pipe")
    return top


def there(**files: bytes) -> dict[str, dict[str, Any]]:
    return {
        name.replace("__", "/"): {"content_hash": content_hash(data).hex(), "size_bytes": len(data)}
        for name, data in files.items()
    }


def test_a_plan_has_a_row_for_every_path(folder: Path) -> None:
    index = there(www__same=b"same", www__sub__other=b"OTHER", www__gone=b"gone")
    rows = plan(list(local_files(folder, "www")), index, quiet, delete=True)
    assert {row.path: row.action for row in rows} == {
        "www/same": "unchanged", "www/new": "write", "www/sub/other": "write", "www/link": "skipped",
        "www/folder link": "skipped", "www/pipe": "skipped", "www/gone": "remove",
    }  # fmt: skip
    conditions = {row.path: row.if_match for row in rows if row.action in ("write", "remove")}
    assert conditions == {
        "www/new": None, "www/sub/other": content_hash(b"OTHER").hex(), "www/gone": content_hash(b"gone").hex(),
    }  # fmt: skip
    assert not [row for row in plan(list(local_files(folder, "")), {}, quiet, delete=True) if row.action == "remove"]


@pytest.fixture
def unlisted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Take the right to list a folder away; root may do everything, so the file system cannot."""

    def take_away(gone: Path) -> None:
        real = os.scandir

        def scandir(path: str) -> Any:
            if Path(path) == gone:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr("os.scandir", scandir)

    return take_away


def test_what_is_in_a_folder_that_cannot_be_listed_is_not_removed(
    folder: Path, unlisted: Callable[[Path], None]
) -> None:
    unlisted(folder / "sub")
    index = there(www__same=b"same", www__sub__other=b"other", www__sub__deep__er=b"x", www__subs=b"y")
    rows = {row.path: row for row in plan(list(local_files(folder, "www")), index, quiet, delete=True)}
    assert rows["www/sub"].action == "failed"
    assert "Permission denied" in rows["www/sub"].detail
    assert [path for path, row in rows.items() if row.action == "remove"] == ["www/subs"]


def test_a_folder_that_cannot_be_listed_changes_nothing(
    run: Run, node: Any, folder: Path, unlisted: Callable[[Path], None]
) -> None:
    node.answers["GET /fs/files"] = 200, {"files": [FILE], "more": False}
    unlisted(folder)
    ran = run("fs", "sync", folder, "--delete", "--home", node.home)
    assert ran.code == UsageError.exit_code
    assert f"cannot list {folder}: Permission denied" in ran.err
    assert [target for target, _ in node.asked] == ["GET /fs/files"]


class FakeNode:
    def __init__(self, **refuse: ErrorCode) -> None:
        self.refuse = refuse
        self.sent: list[Any] = []

    def post_stream(self, path: str, parts: Any, /, **query: Any) -> Any:
        name = query["path"]
        if name in self.refuse:
            raise Refused(self.refuse[name], "no")
        self.sent.append((path, name, b"".join(parts), query["if_match"], query["if_absent"]))
        return {"is_local": name == "same"}

    def post_json(self, path: str, value: Any) -> None:
        self.sent.append((path, value["path"], None, value["if_match"], None))


def test_each_change_has_its_condition_and_one_that_fails_stops_no_other(folder: Path) -> None:
    index = there(same=b"SAME", gone=b"gone")
    node = FakeNode(new=ErrorCode.STATE_MISMATCH)
    rows = plan(list(local_files(folder, "")), index, quiet, delete=True)
    (folder / "sub" / "other").unlink()
    done = FolderSync(node, quiet).carry_out(rows)  # type: ignore[arg-type]
    assert {row.path: row.action for row in done if row.action != "skipped"} == {
        "same": "write", "new": "conflict", "sub/other": "failed", "gone": "remove",
    }  # fmt: skip
    assert [row.path for row in done if row.is_local] == ["same"]
    assert node.sent == [
        ("/fs/file", "same", b"same", content_hash(b"SAME").hex(), None),
        ("/fs/remove", "gone", None, content_hash(b"gone").hex(), None),
    ]


@pytest.mark.parametrize("size", [0, BLOB_BYTES_MAX, BLOB_BYTES_MAX + 1, 3 * BLOB_BYTES_MAX])
def test_a_local_hash_is_the_one_of_the_index(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    builder = ManifestBuilder()
    whole = content_hash(data)
    if size > BLOB_BYTES_MAX:
        whole = [*builder.add(data), *builder.finish()][-1][0].digest
    read: list[int] = []
    assert file_hash(tmp_path / "f", read.append) == whole.hex()
    assert sum(read) == size


def test_syncing_prints_what_was_done(run: Run, node: Any, folder: Path) -> None:
    node.answers["GET /fs/files"] = 200, {"files": [], "more": False}
    dry = run("fs", "sync", folder, "--to", "/www/", "--dry-run", "--home", node.home)
    assert dry.out.splitlines()[-1].startswith("3 write, 0 unchanged")
    assert "dry run" in dry.out
    assert node.asked == [("GET /fs/files", {"prefix": ["www/"]})]
    sent = answered(node, "/fs/file", {**FILE, "is_local": True})
    ran = run("fs", "sync", folder, "--home", node.home)
    assert "3 files, such as new, are this node's own" in ran.err
    sent.clear()
    ran = run("fs", "sync", folder, "--home", node.home, "--json")
    assert ran.json["local"] == 3
    assert (ran.code, ran.json["write"], ran.json["skipped"], ran.json["bytes_sent"]) == (0, 3, 3, 12)
    assert len(sent) == 3
    assert [asked["path"] for target, asked in node.asked[-3:] if target == "POST /fs/file"] == [
        ["new"], ["same"], ["sub/other"],
    ]  # fmt: skip
    node.answers["POST /fs/file"] = lambda _body: (
        409, {"error": {"code": "ERR_STATE_MISMATCH", "message": "no", "rule": "", "retryable": False}},
    )  # fmt: skip
    assert run("fs", "sync", folder, "--home", node.home).code == 69

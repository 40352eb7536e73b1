"""agent-world blob export and import: which archives, of whom, and what a node is asked."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.car import car_header, car_section
from agent_world.distfs.content_stream import cid_of_stream
from agent_world.testing.unixfs_made import Made
from agent_world.wire.cid import Codec
from agent_world.wire.ipfs_cid import HashFunction, IpfsCid

Run = Callable[..., Any]
CID = cid_of(b"content", Codec.RAW)
OWN = car_header([CID]) + car_section(CID, b"content")
HELIA = Path(__file__).parents[1] / "store" / "helia"


def query_of(node: Any, asked: str) -> list[dict[str, list[str]]]:
    return [query for target, query in node.asked if target == asked]


def storing(node: Any) -> list[tuple[str, bytes]]:
    """Let a node take content and files; what it got, with the paths."""
    stored: list[tuple[str, bytes]] = []

    def take(body: bytes) -> tuple[int, Any]:
        path = node.asked[-1][1].get("path", [""])[0]
        stored.append((path, body))
        cid = cid_of_stream([body])
        shown = {"cid": str(cid), "content_hash": cid.digest.hex(), "size_bytes": len(body)}
        return 200, {**shown, "is_local": True} if path.startswith("own/") else shown

    node.answers["POST /content"] = node.answers["POST /fs/file"] = take
    return stored


def written(tmp_path: Path, data: bytes) -> Path:
    file = tmp_path / "some.car"
    file.write_bytes(data)
    return file


def made_folder(function: HashFunction = HashFunction.SHA2_256) -> tuple[Made, IpfsCid]:
    made = Made(function)
    files = {"a.txt": made.leaf(b"one"), "b": made.folder({"c": made.file([(made.leaf(b"two"), 3)], b"<")})}
    return made, made.folder({**files, "link": made.symlink(b"a.txt")})


# --- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "unixfs"), [([], "0"), (["--unixfs"], "1")])
def test_export_asks_for_the_archive_that_is_wanted(
    run: Run, node: Any, tmp_path: Path, option: list[str], unixfs: str
) -> None:
    node.answers[f"GET /car/{CID}"] = 200, OWN
    out = tmp_path / "out.car"
    ran = run("blob", "export", CID, "-o", out, *option, "--home", node.home, "--json")
    assert (ran.code, ran.json["size_bytes"], out.read_bytes()) == (0, len(OWN), OWN)
    assert query_of(node, f"GET /car/{CID}") == [{"local_only": ["0"], "timeout_ms": ["30000"], "unixfs": [unixfs]}]


def test_export_of_what_has_no_unixfs_leaves_no_file(run: Run, node: Any, tmp_path: Path, error: Any) -> None:
    node.answers[f"GET /car/{CID}"] = error(400, "ERR_BAD_REQUEST", "it is no file of several blocks")
    ran = run("blob", "export", CID, "-o", tmp_path / "out.car", "--unixfs", "--home", node.home)
    assert ran.code != 0
    assert "no file of several blocks" in ran.err
    assert not (tmp_path / "out.car").exists()


# --- import -----------------------------------------------------------------------------------------------------------


def test_an_archive_of_our_own_goes_to_the_node_as_it_is(run: Run, node: Any, tmp_path: Path) -> None:
    sent: list[bytes] = []

    def take(body: bytes) -> tuple[int, Any]:
        sent.append(body)
        return 200, {"roots": [str(CID)], "blocks": 1, "missing": 0}

    node.answers["POST /car"] = take
    file = written(tmp_path, OWN)
    assert run("blob", "import", file, "--pin", "x", "--home", node.home, "--json").json["blocks"] == 1
    assert (sent, query_of(node, "POST /car")) == ([OWN], [{"pin": ["x"]}])
    assert run("blob", "import", file, "--into", "a", "--home", node.home).code == 64
    # What is no archive is the node's to say.
    assert run("blob", "import", written(tmp_path, b"garbage"), "--home", node.home).code == 0
    assert sent[1:] == [b"garbage"]


@pytest.mark.parametrize("function", [HashFunction.SHA2_256, HashFunction.BLAKE3])
def test_files_of_another_tool_are_stored_one_by_one(
    run: Run, node: Any, tmp_path: Path, function: HashFunction
) -> None:
    stored = storing(node)
    made, root = made_folder(function)
    ran = run("blob", "import", written(tmp_path, made.archive(root)), "--home", node.home, "--json")
    assert (ran.code, stored) == (0, [("", b"one"), ("", b"<two")])
    files = ran.json["files"]
    assert [(row["path"], row["cid"], row["size_bytes"], row["at"]) for row in files] == [
        (f"{root}/a.txt", str(cid_of(b"one", Codec.RAW)), 3, None),
        (f"{root}/b/c", str(cid_of(b"<two", Codec.RAW)), 4, None),
    ]
    assert files[0]["ipfs_cid"] == str(made.leaf(b"one"))
    assert ran.json["left_out"] == [{"path": f"{root}/link", "why": "a symbolic link"}]
    assert (ran.json["roots"], ran.json["blocks"]) == ([str(root)], len(made))


def test_people_see_paths_and_cids_and_what_was_left_out(run: Run, node: Any, tmp_path: Path) -> None:
    storing(node)
    made, root = made_folder()
    ran = run("blob", "import", written(tmp_path, made.archive(root)), "--home", node.home)
    assert [line.split()[0] for line in ran.out.splitlines()] == ["path", f"{root}/a.txt", f"{root}/b/c"]
    assert str(cid_of(b"one", Codec.RAW)) in ran.out
    assert f"left out: {root}/link, a symbolic link" in ran.err


def test_a_folder_goes_below_a_path_of_the_index_and_a_file_to_it(run: Run, node: Any, tmp_path: Path) -> None:
    stored = storing(node)
    made, root = made_folder()
    ran = run("blob", "import", written(tmp_path, made.archive(root)), "--into", "www", "--home", node.home, "--json")
    assert (ran.code, stored) == (0, [("www/a.txt", b"one"), ("www/b/c", b"<two")])
    assert [row["at"] for row in ran.json["files"]] == ["www/a.txt", "www/b/c"]
    stored.clear()
    file = made.leaf(b"one")
    assert run("blob", "import", written(tmp_path, made.archive(file)), "--into", "x/y", "--home", node.home).code == 0
    assert stored == [("x/y", b"one")]
    stored.clear()
    both = written(tmp_path, made.archive(file, root, file))
    assert run("blob", "import", both, "--into", "two", "--home", node.home).code == 0
    assert [path for path, _ in stored] == [f"two/{file}", f"two/{root}/a.txt", f"two/{root}/b/c"]


def test_files_that_no_other_node_gets_are_said_to_be_so(run: Run, node: Any, tmp_path: Path) -> None:
    storing(node)
    made, root = made_folder()
    for into, said in (("own", True), ("other", False)):
        file = written(tmp_path, made.archive(root))
        ran = run("blob", "import", file, "--into", into, "--home", node.home)
        assert ("2 files, such as own/a.txt, are this node's own" in ran.err) is said
        ran = run("blob", "import", file, "--into", into, "--home", node.home, "--json")
        assert [row["is_local"] for row in ran.json["files"]] == [said, said]


@pytest.mark.parametrize("name", ["cid_v0.car", "cid_v1.car"])
def test_what_helia_has_made_is_taken(run: Run, node: Any, name: str) -> None:
    stored = storing(node)
    ran = run("blob", "import", HELIA / name, "--into", "from/helia", "--home", node.home, "--json")
    assert (ran.code, len(stored)) == (0, 44)
    assert ("from/helia/hello.txt", b"hello from Helia\n") in stored


class Pipe(io.BufferedReader):
    """Standard input, which cannot be read twice."""

    def __init__(self, data: bytes) -> None:
        read, write = os.pipe()
        os.write(write, data)
        os.close(write)
        super().__init__(io.FileIO(read))


@pytest.mark.parametrize("own", [True, False])
def test_standard_input_may_be_either(run: Run, node: Any, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    stored = storing(node)
    node.answers["POST /car"] = lambda body: (200, {"sent": body == OWN})
    made, root = made_folder()
    with io.TextIOWrapper(Pipe(OWN if own else made.archive(root))) as piped:
        monkeypatch.setattr(sys, "stdin", piped)
        ran = run("blob", "import", "-", "--home", node.home, "--json")
    assert ran.code == 0
    assert ran.json["sent"] if own else [data for _, data in stored] == [b"one", b"<two"]


class Full(io.BytesIO):
    """A temporary file on a disk that is full."""

    def write(self, _data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_with_no_room_for_the_copy_of_a_pipe_is_an_error_of_the_disk(
    run: Run, node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, root = made_folder()
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with io.TextIOWrapper(Pipe(made.archive(root))) as piped:
        monkeypatch.setattr(sys, "stdin", piped)
        ran = run("blob", "import", "-", "--home", node.home)
    assert (ran.code, node.asked) == (74, [])
    assert "cannot copy - to a temporary file" in ran.err


def test_a_file_that_cannot_be_read_is_named(run: Run, node: Any, tmp_path: Path) -> None:
    ran = run("blob", "import", tmp_path / "none.car", "--home", node.home)
    assert (ran.code, node.asked) == (64, [])
    assert "none.car" in ran.err


def spoilt(how: str) -> bytes:
    """An archive of which a part is good."""
    made, root = made_folder()
    match how:
        case "missing":
            del made[made.leaf(b"two").multihash]
        case "escaping":
            root = made.folder({"a": made.leaf(b"one"), "..": made.leaf(b"two")})
        case "reserved":
            root = made.folder({"a": made.leaf(b"one"), "consensus": made.folder({"x": made.leaf(b"one")})})
        case "cut":
            return made.archive(root)[:-1]
        case "changed":
            return made.archive(root)[:-1] + b"?"
        case "foreign":
            return made.archive(root, IpfsCid.from_bytes(cid_of(b"").to_bytes()))
    return made.archive(root)


@pytest.mark.parametrize(("how", "said"), [
    ("missing", "/b/c: block .* is not in the archive"), ("escaping", "an entry called '..'"),
    ("reserved", "written by the record log alone"), ("cut", "ends in the middle"),
    ("changed", "do not hash to"), ("foreign", "is not in the archive"),
])  # fmt: skip
def test_what_is_wrong_anywhere_stores_nothing(run: Run, node: Any, tmp_path: Path, how: str, said: str) -> None:
    stored = storing(node)
    ran = run("blob", "import", written(tmp_path, spoilt(how)), "--into", ".", "--home", node.home)
    assert ran.code == 64
    assert re.search(said, ran.err.replace("\n", " "))
    assert stored == []


def test_a_pin_has_no_place_where_there_are_many_files(run: Run, node: Any, tmp_path: Path) -> None:
    made, root = made_folder()
    ran = run("blob", "import", written(tmp_path, made.archive(root)), "--pin", "x", "--home", node.home)
    assert (ran.code, node.asked) == (64, [])


def test_a_node_that_refuses_a_file_ends_it_and_says_how_far_it_came(
    run: Run, node: Any, tmp_path: Path, error: Any
) -> None:
    stored = storing(node)
    take = node.answers["POST /content"]
    node.answers["POST /content"] = lambda body: (
        error(503, "ERR_BUSY", "no room", retryable=True) if stored else take(body)
    )
    made, root = made_folder()
    ran = run("blob", "import", written(tmp_path, made.archive(root)), "--home", node.home)
    assert ran.code == 75
    assert "1 of 2 files were stored before this" in ran.err
    assert "no room" in ran.err

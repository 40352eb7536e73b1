"""The blob commands: what they ask the node, how they go on from part to part, and how they end."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_world.cli.blob_get import write_new
from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import AgentWorldError, DiskReason, StoreNotWritable
from agent_world.wire.cid import Codec

Run = Callable[..., Any]
HASHES = [f"{number:064x}" for number in range(1, 6)]
ROWS = [{"content_hash": item, "size_bytes": 5, "is_file": False} for item in HASHES]


def test_ls_is_a_table_and_says_when_there_are_more(run: Run, node: Any) -> None:
    node.answers["GET /blobs"] = 200, {"blobs": ROWS}
    ran = run("blob", "ls", "--limit", 4, "--prefix", "0", "--home", node.home)
    assert node.asked == [("GET /blobs", {"prefix": ["0"], "limit": ["5"]})] or "after" not in node.asked[0][1]
    assert [line.split()[0] for line in ran.out.splitlines()] == ["content_hash", *HASHES[:4]]
    assert f"--after {HASHES[3]}" in ran.err
    assert run("blob", "ls", "--home", node.home, "--json").json == ROWS


def test_ls_asks_page_by_page(run: Run, node: Any) -> None:
    first = [{**ROWS[0], "content_hash": f"{number:064x}"} for number in range(1_000)]
    pages = [first, ROWS[:3]]

    def answer(_body: bytes) -> tuple[int, Any]:
        return 200, {"blobs": pages.pop(0)}

    node.answers["GET /blobs"] = answer
    ran = run("blob", "ls", "--limit", 5_000, "--home", node.home, "--json")
    assert (len(ran.json), ran.err) == (1_003, "")
    assert [asked[1].get("after") for asked in node.asked] == [None, [first[-1]["content_hash"]]]


@pytest.mark.parametrize("as_hash", [True, False])
def test_stat_of_a_hash_or_a_cid(run: Run, node: Any, as_hash: bool) -> None:
    cid = cid_of(b"one", Codec.RAW)
    node.answers[f"GET /blobs/{cid}/stat"] = 200, {"size_bytes": 3}
    text = cid.digest.hex() if as_hash else str(cid)
    assert run("blob", "stat", text, "--home", node.home, "--json").json == {"size_bytes": 3}
    assert run("blob", "stat", "nonsense", "--home", node.home).code == 76


def answers(*parts: dict[str, Any]) -> tuple[list[Any], Callable[[bytes], tuple[int, Any]]]:
    asked: list[Any] = []
    left = list(parts)

    def answer(body: bytes) -> tuple[int, Any]:
        asked.append(json.loads(body))
        return 200, left.pop(0)

    return asked, answer


def part(done: int, *found: tuple[str, str], **more: Any) -> dict[str, Any]:
    entries = [{"content_hash": item, "verdict": verdict} for item, verdict in found]
    return {"done": done, "size_bytes": 10 * done, "found": entries, "links": [], **more}


def test_verify_goes_through_all_that_is_stored(run: Run, node: Any) -> None:
    asked, node.answers["POST /blobs/verify"] = answers(
        part(3, (HASHES[0], "healed"), next=HASHES[2], total=5), part(2, next=None, total=5)
    )
    ran = run("blob", "verify", "--heal", "--home", node.home, "--json")
    assert asked == [{"prefix": "", "after": None, "heal": True}, {"prefix": "", "after": HASHES[2], "heal": True}]
    assert (ran.code, ran.json["checked"], ran.json["size_bytes"], ran.json["healed"]) == (0, 5, 50, 1)
    assert ran.json["ok"] is True


@pytest.mark.parametrize("verdict", ["damaged", "absent", "unreadable"])
def test_verify_fails_if_anything_stays_damaged(run: Run, node: Any, verdict: str) -> None:
    _asked, node.answers["POST /blobs/verify"] = answers(part(1, (HASHES[0], verdict), next=None, total=1))
    ran = run("blob", "verify", "--home", node.home)
    assert ran.code == 65
    assert f"{verdict:10} {HASHES[0]}" in ran.err
    assert f"{verdict} 1".split() in [line.split() for line in ran.out.splitlines()]


def test_verify_follows_links_once_and_sends_again_what_there_was_no_time_for(run: Run, node: Any) -> None:
    root, one, two = (str(cid_of(name)) for name in (b"root", b"one", b"two"))
    asked, node.answers["POST /blobs/verify"] = answers(
        {**part(1), "links": [one, two, one, root]}, {**part(1), "links": [two]}, part(1)
    )
    ran = run("blob", "verify", root, root, "--home", node.home, "--json")
    assert [request["contents"] for request in asked] == [[root], [one, two], [two]]
    assert (ran.code, ran.json["checked"]) == (0, 3)


def test_put_and_get_with_their_progress_kept_quiet(run: Run, node: Any, tmp_path: Path) -> None:
    data = b"some content"
    cid = cid_of(data, Codec.RAW)
    file = tmp_path / "file"
    file.write_bytes(data)
    node.answers["POST /content"] = 200, {"cid": str(cid)}
    put = run("blob", "put", file, "--home", node.home, "--json")
    assert (put.code, put.json, put.err) == (0, {"cid": str(cid)}, "")
    node.answers[f"GET /content/{cid}"] = 200, data
    got = run("blob", "get", cid, "-o", tmp_path / "got", "--home", node.home)
    assert (got.code, got.err, (tmp_path / "got").read_bytes()) == (0, "", data)


def test_a_range_of_a_blob_named_by_its_hash(run: Run, node: Any) -> None:
    cid = cid_of(b"0123456789", Codec.RAW)
    node.answers[f"GET /content/{cid}"] = 200, b"234"
    ran = run("blob", "get", content_hash(b"0123456789").hex(), "--offset", 2, "--length", 3, "--home", node.home)
    assert (ran.code, ran.out) == (0, "234")
    assert node.asked == [(f"GET /content/{cid}", {"offset": ["2"], "length": ["3"]})]


def test_what_the_node_gave_is_hashed_again(run: Run, node: Any, tmp_path: Path) -> None:
    cid = cid_of(b"right", Codec.RAW)
    node.answers[f"GET /content/{cid}"] = 200, b"wrong"
    ran = run("blob", "get", cid, "-o", tmp_path / "got", "--home", node.home)
    assert (ran.code, (tmp_path / "got").exists()) == (65, False)


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, 74), (errno.EROFS, 74), (errno.EACCES, 74), (errno.EEXIST, 64), (errno.ENOENT, 64)],
)
def test_a_place_that_cannot_be_written_says_whose_fault_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(AgentWorldError, match="cannot write") as caught:
            write_new(output, iter([b"data"]))
    assert caught.value.exit_code == code


def test_a_disk_that_fills_up_leaves_no_half_file(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreNotWritable) as caught:
        write_new(tmp_path / "out", parts())
    assert caught.value.reason is DiskReason.FULL
    assert list(tmp_path.iterdir()) == []

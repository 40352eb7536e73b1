"""Runs the vectors of protocols/bitswap."""

from __future__ import annotations

from broken_rules import Case, rule_of

from agent_world.distfs.unixfs import links_of_node
from agent_world.testing.vectors_bitswap import chunks_of, shown, unixfs_of
from agent_world.wire.bitswap import open_message


def run_bitswap_messages(_file: Case, case: Case) -> None:
    data = bytes.fromhex(case["bytes"])
    assert rule_of(lambda: open_message(data)) == case.get("rule")
    if "rule" in case:
        return
    message = open_message(data)
    assert (message.blocks, message.dropped) == (case.get("blocks", 0), case.get("dropped", 0))
    if "count" in case:
        assert len(message.wants) == case["count"]
    else:
        assert ([shown(want) for want in message.wants], message.full) == (case["wants"], case["full"])


def run_unixfs(_file: Case, case: Case) -> None:
    if "root" in case:
        nodes = unixfs_of(chunks_of(case["chunks"], case["chunk_bytes"], case["last_bytes"]))
        assert (str(nodes[-1][0]), len(nodes)) == (case["root"], case["nodes"])
        return
    data = bytes.fromhex(case["node"])
    assert rule_of(lambda: links_of_node(data)) == case.get("rule")
    if "rule" not in case:
        assert [str(cid) for cid in links_of_node(data)] == case["links"]

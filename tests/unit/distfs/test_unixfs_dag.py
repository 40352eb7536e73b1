"""Trees of other IPFS tools: read whole, measured before, refused where they are not what they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.distfs import unixfs_dag
from agent_world.distfs.paths import PATH_BYTES_MAX
from agent_world.distfs.unixfs_dag import BYTES_MAX, DEPTH_MAX, FILES_MAX, NODES_MAX, UnixfsDag
from agent_world.distfs.unixfs_node import NodeKind
from agent_world.errors import UsageError
from agent_world.testing.unixfs_made import Made
from agent_world.wire.ipfs_cid import HashFunction, IpfsCid, IpfsCodec


def read(made: Made, root: IpfsCid) -> dict[str, bytes]:
    """Every file below a root by its path, and symbolic links as None."""
    dag = UnixfsDag(made)
    measure = dag.measure(root)
    found = list(dag.entries(root))
    files = {
        entry.path.removeprefix(str(root)): b"".join(dag.parts(entry.cid)) for entry in found if not entry.left_out
    }
    assert [entry.size_bytes for entry in found if not entry.left_out] == [len(data) for data in files.values()]
    assert measure.size_bytes == sum(map(len, files.values()))
    return files


def refused(made: Made, root: IpfsCid, said: str) -> None:
    dag = UnixfsDag(made)
    with pytest.raises(UsageError, match=said):
        dag.measure(root)


@pytest.fixture(params=[HashFunction.SHA2_256, HashFunction.BLAKE3])
def made(request: pytest.FixtureRequest) -> Made:
    return Made(request.param)


def test_a_root_that_is_a_file(made: Made) -> None:
    assert read(made, made.leaf(b"one block")) == {"": b"one block"}
    assert read(made, made.file([], b"in dag-pb")) == {"": b"in dag-pb"}
    assert read(made, made.file([], b"long ago", kind=NodeKind.RAW)) == {"": b"long ago"}
    assert read(made, made.file([])) == read(made, made.leaf(b"")) == {"": b""}


def test_parts_are_read_in_order_at_any_depth_and_as_often_as_they_are_linked(made: Made) -> None:
    a, b = made.leaf(b"aa"), made.file([], b"bbb")
    inner = made.file([(a, 2), (b, 3), (a, 2)], b"<")
    top = made.file([(inner, 8), (a, 2), (inner, 8), (made.leaf(b""), 0)], b"!")
    assert read(made, top) == {"": b"!<aabbbaaaa<aabbbaa"}


def test_folders_in_folders(made: Made) -> None:
    file = made.leaf(b"x")
    inner = made.folder({"a": file, "empty": made.folder({}), "ö": made.file([(file, 1)])})
    assert read(made, made.folder({"b": inner, "a": file, "c": inner})) == {
        "/b/a": b"x", "/b/ö": b"x", "/a": b"x", "/c/a": b"x", "/c/ö": b"x",
    }  # fmt: skip
    assert read(made, made.folder({})) == {}


def test_a_sharded_folder_has_the_names_without_their_buckets(made: Made) -> None:
    x, y = made.leaf(b"x"), made.leaf(b"y")
    below = made.shard([(x, b"0Afile"), (y, b"0Bother")])
    inner = made.shard([(y, b"FFdeep")])
    top = made.shard([(below, b"00"), (inner, b"01sub"), (made.folder({"z": x}), b"02plain")])
    assert read(made, top) == {"/file": b"x", "/other": b"y", "/sub/deep": b"y", "/plain/z": b"x"}


def test_what_is_no_file_is_left_out_and_said(made: Made) -> None:
    root = made.folder({"link": made.symlink(b"../../etc/passwd"), "file": made.leaf(b"x")})
    assert read(made, root) == {"/file": b"x"}
    dag = UnixfsDag(made)
    dag.measure(root)
    assert [(entry.path, entry.left_out) for entry in dag.entries(root) if entry.left_out] == [
        (f"{root}/link", "a symbolic link")
    ]


def test_blocks_that_stand_in_their_cids_need_not_be_there() -> None:
    made, inline = Made(), Made(HashFunction.IDENTITY)
    small = inline.leaf(b"small")
    node = inline.file([(inline.leaf(b"p"), 1)], b"q")
    assert node.codec is IpfsCodec.DAG_PB
    assert read(made, made.folder({"a": small, "b": node, "c": made.file([(small, 5), (small, 5)])})) == {
        "/a": b"small", "/b": b"qp", "/c": b"smallsmall",
    }  # fmt: skip


def test_every_missing_block_is_named_with_its_place(made: Made) -> None:
    leaf, deep = made.leaf(b"leaf"), made.file([], b"deep")
    root = made.folder({"a": made.folder({"f": made.file([(leaf, 4), (deep, 4)])})})
    for gone in (leaf, deep):
        less = Made(made.function)
        less.update({key: block for key, block in made.items() if key != gone.multihash})
        refused(less, root, f"{root}/a/f: block {gone} is not in the archive")
    refused(Made(), root, f"^{root}: block {root} is not")


def test_a_part_that_is_not_what_its_parent_says(made: Made) -> None:
    leaf = made.leaf(b"leaf")
    refused(made, made.file([(leaf, 5)]), "has 4 bytes of a file where 5 belong")
    refused(made, made.file([(made.folder({}), 0)]), "is part of a file, and is a directory")
    refused(made, made.file([(made.symlink(b"x"), 0)]), "is part of a file, and is a symlink")
    refused(made, made.shard([(leaf, b"00")]), "should be a shard")
    refused(made, made.shard([(made.shard([], 16), b"00")]), "should be a shard")
    refused(made, made.folder({"a": made.block(b"garbage")}), "/a: block .*: ")
    cbor = made.block(b"\xa0", IpfsCodec.DAG_CBOR)
    refused(made, made.folder({"a": cbor}), "DAG_CBOR is no part")


def test_one_name_in_two_shards_is_found_before_either_is_read(made: Made) -> None:
    x = made.leaf(b"x")
    root = made.shard([(made.shard([(x, b"00same")]), b"00"), (x, b"01same")])
    dag = UnixfsDag(made)
    dag.measure(root)
    with pytest.raises(UsageError, match="/same: two entries of one name"):
        list(dag.entries(root))


def test_a_path_has_no_more_than_the_index_takes(made: Made) -> None:
    root = made.leaf(b"x")
    for name in ("a", "b", "c", "d"):
        root = made.folder({name * 255: root})
    assert [len(path) for path in read(made, root)] == [PATH_BYTES_MAX]
    root = made.folder({"e": root})
    dag = UnixfsDag(made)
    dag.measure(root)
    with pytest.raises(UsageError, match=f"a path of more than {PATH_BYTES_MAX} bytes"):
        list(dag.entries(root))


def test_the_depth_is_bounded_for_folders_and_files(made: Made) -> None:
    folder, file = made.leaf(b"x"), made.leaf(b"x")
    for _ in range(DEPTH_MAX - 1):
        folder, file = made.folder({"d": folder}), made.file([(file, 1)])
    assert len(read(made, folder)) == len(read(made, file)) == 1
    refused(made, made.folder({"d": folder}), f"more than {DEPTH_MAX} nodes deep")
    refused(made, made.file([(file, 1)]), f"more than {DEPTH_MAX} nodes deep")
    refused(made, made.folder({"d": made.folder({}), "e": folder, "f": made.folder({"g": folder})}), "nodes deep")


def test_a_measured_block_is_not_deep_enough_to_hide_below_another(made: Made) -> None:
    """What was measured near the root counts again where it is linked further down."""
    deep = made.leaf(b"x")
    for _ in range(DEPTH_MAX - 2):
        deep = made.folder({"d": deep})
    refused(made, made.folder({"a": deep, "b": made.folder({"c": deep})}), "/b/c: more than")


def test_a_few_blocks_that_are_a_tree_of_any_size_are_refused_in_no_time(made: Made) -> None:
    folder, file, empty = made.folder({}), made.leaf(b"x" * 1024), made.file([])
    size = 1024
    for _ in range(40):
        folder = made.folder({"a": folder, "b": folder})
    refused(made, folder, f"more than {FILES_MAX} entries")
    for _ in range(40):
        file, size = made.file([(file, size), (file, size)]), 2 * size
    refused(made, file, f"or {BYTES_MAX} bytes")
    for _ in range(40):
        empty = made.file([(empty, 0), (empty, 0)])
    refused(made, empty, f"{NODES_MAX} nodes")


def test_the_bounds_are_of_what_is_there(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    x = made.leaf(b"xx")
    root = made.folder({"a": x, "b": made.file([(x, 2), (x, 2)])})
    for name, value in (("FILES_MAX", 3), ("NODES_MAX", 5), ("BYTES_MAX", 6)):
        with monkeypatch.context() as patch:
            patch.setattr(unixfs_dag, name, value)
            assert len(read(made, root)) == 2
            patch.setattr(unixfs_dag, name, value - 1)
            refused(made, root, "more than")


TREES: st.SearchStrategy[object] = st.recursive(
    st.binary(max_size=20),
    lambda inner: (
        st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=4)
        | st.lists(st.binary(max_size=8), max_size=4)
    ),
    max_leaves=12,
)
"""Bytes are leaves, lists files of parts, maps folders."""


def build(made: Made, tree: object) -> tuple[IpfsCid, dict[str, bytes]]:
    """The root of a tree, and its files by their paths."""
    if isinstance(tree, bytes):
        return made.leaf(tree), {"": tree}
    if isinstance(tree, list):
        return made.file([(made.leaf(part), len(part)) for part in tree]), {"": b"".join(tree)}
    assert isinstance(tree, dict)
    below = {name: build(made, child) for name, child in tree.items()}
    files = {f"/{name}{path}": data for name, (_, found) in below.items() for path, data in found.items()}
    return made.folder({name: cid for name, (cid, _) in below.items()}), files


@given(TREES, st.sampled_from([HashFunction.SHA2_256, HashFunction.BLAKE3]))
def test_any_tree_is_read_as_it_was_made(tree: object, function: HashFunction) -> None:
    made = Made(function)
    root, files = build(made, tree)
    assert read(made, root) == files

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.distfs.paths import PATH_BYTES_MAX, is_reserved, normalise, normalise_own
from agent_world.errors import UsageError


@pytest.mark.parametrize(
    ("path", "normal"),
    [("a", "a"), ("./a//b/./c/", "a/b/c"), ("a/...", "a/..."), ("é/ü", "é/ü"), (" a / b", " a / b"), ("a\\b", "a\\b")],
)
def test_normal_forms(path: str, normal: str) -> None:
    assert normalise(path) == normal


@pytest.mark.parametrize(
    "path",
    ["", "/", "/root.txt", "..", "../a.txt", "a/../../b", "a/..", ".", "././", "//", "a\0b", "x" * (PATH_BYTES_MAX + 1),
     "ü" * PATH_BYTES_MAX, "\ud800"],
)  # fmt: skip
def test_t_2_5_what_is_no_path_is_refused(path: str) -> None:
    """T-2.5."""
    with pytest.raises(UsageError):
        normalise(path)


@given(st.text(alphabet=st.sampled_from("ab./\\é\0"), max_size=20) | st.text(max_size=40))
def test_t_9_16_normalising_is_idempotent_and_never_escapes(path: str) -> None:
    try:
        normal = normalise(path)
    except UsageError:
        return
    assert normalise(normal) == normal
    segments = normal.split("/")
    assert not {"", ".", ".."} & set(segments)
    assert [segment for segment in path.split("/") if segment not in ("", ".")] == segments


@pytest.mark.parametrize("path", ["consensus/a", "./consensus//commits/1", "consensus"])
def test_paths_of_the_record_log_are_nobody_elses_to_change(path: str) -> None:
    assert is_reserved(normalise(path))
    with pytest.raises(UsageError, match="record log"):
        normalise_own(path)
    assert normalise_own("consensus2/a") == "consensus2/a"

import pytest

from agent_world.errors import DecodeError, RemoteError
from agent_world.net.dht_records import RECORD_BYTES_MAX, RecordRules

KEY = "/aw/world/w/head"


def largest(_key: str, values: object) -> int:
    assert isinstance(values, list)
    return values.index(max(values))


def no_zero(_key: str, value: bytes) -> None:
    if value == b"0":
        raise RemoteError("H1", "zero")


RULES = RecordRules(no_zero, largest)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [(KEY, b"0", "H1"), ("/zz/x", b"1", "D7"), ("plain", b"1", "D7"), (KEY, bytes(RECORD_BYTES_MAX + 1), "D1")],
)
def test_what_is_wrong_is_refused_with_its_rule(key: str, value: bytes, rule: str) -> None:
    with pytest.raises(RemoteError) as caught:
        RULES.check(key, value)
    assert caught.value.rule == rule
    assert isinstance(caught.value, DecodeError) is (rule != "H1")


def test_the_best_is_what_the_hook_selects() -> None:
    RULES.check(KEY, bytes(RECORD_BYTES_MAX))
    assert RULES.best(KEY, [b"1", b"3", b"2"]) == b"3"

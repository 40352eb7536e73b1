from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_world.config import StorageConfig
from agent_world.crypto.hashing import content_hash
from agent_world.errors import HomeError
from agent_world.node import scrub
from agent_world.node.clock import Clock
from agent_world.node.heal import Healer
from agent_world.node.scrub import HEAL_MAX_S, RETRY_S, START_S, Scrubber, Verdict
from agent_world.store.blob_files import BlobFiles
from agent_world.store.disk_faults import DiskFaults
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.wire.cid import ContentHash

LARGE = bytes(range(256)) * 200
"""A blob that is a file."""


class FakeClient:
    """One peer that has what is in ``held``, and takes ``answer_s`` for an answer."""

    def __init__(self, *held: bytes, answer_s: float = 0.0) -> None:
        self.held = {content_hash(data): data for data in held}
        self.asked: list[ContentHash] = []
        self.answer_s = answer_s

    async def fetch_far(self, _wanted: Sequence[ContentHash]) -> dict[ContentHash, bytes]:
        return {}

    async def fetch_near(self, wanted: Sequence[ContentHash]) -> dict[ContentHash, bytes]:
        await trio.sleep(self.answer_s)
        asked = list(wanted)
        self.asked += asked
        return {item: self.held[item] for item in asked if item in self.held}


def scrubber(chain: LedgerChain, client: FakeClient | None = None, **config: float) -> Scrubber:
    healer = Healer(client or FakeClient(), chain.blobs)  # type: ignore[arg-type]
    clock = Clock(lambda: int(trio.current_time() * 1000))
    return Scrubber(chain.home, chain.blobs, healer, StorageConfig(**config), clock)  # type: ignore[arg-type]


def file_of(chain: LedgerChain, content: ContentHash) -> Path:
    return BlobFiles(chain.home.files.blobs, chain.home.files.quarantine, lambda _step: None, DiskFaults()).path(
        content
    )


def quarantined(chain: LedgerChain) -> list[str]:
    return sorted(path.name.split(".")[0] for path in chain.home.files.quarantine.glob("*"))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "longer", "gone"])
async def test_a_damaged_file_is_put_aside_and_comes_back(
    chain: LedgerChain, damage: str, autojump_clock: object
) -> None:
    content = chain.blobs.put(LARGE)
    path = file_of(chain, content)
    changed = {
        "flip": LARGE[:7] + bytes([LARGE[7] ^ 1]) + LARGE[8:], "cut": LARGE[:-1], "empty": b"", "longer": LARGE + b"x",
    }  # fmt: skip
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(changed[damage])
    made = scrubber(chain, FakeClient(LARGE))
    await made.read_all()
    assert chain.blobs.get(content) == LARGE
    assert quarantined(chain) == ([] if damage == "gone" else [content.hex()])
    assert (made.counters["scrub.damaged"], made.counters["scrub.healed"]) == (1, 1)
    assert made.status()["lost"] == 0


@given(place=st.integers(0, len(LARGE) - 1), flip=st.integers(1, 255), cut=st.booleans())
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_any_flip_or_cut_of_a_file_is_found(chain: LedgerChain, place: int, flip: int, cut: bool) -> None:
    content = chain.blobs.put(LARGE)
    changed = LARGE[:place] if cut else LARGE[:place] + bytes([LARGE[place] ^ flip]) + LARGE[place + 1 :]
    file_of(chain, content).write_bytes(changed)

    async def found() -> Verdict:
        return (await scrubber(chain).check(content, heal=False)).verdict

    assert trio.run(found) is Verdict.DAMAGED
    assert not chain.blobs.has(content), "what is damaged is absent"


async def test_damage_in_the_database_is_found_too(chain: LedgerChain, autojump_clock: object) -> None:
    content = chain.blobs.put(b"small")
    with chain.home.database.transaction():
        chain.home.database.execute("UPDATE blobs SET data = x'00' WHERE content_hash = ?", (content,))
    await scrubber(chain, FakeClient(b"small")).read_all()
    assert chain.blobs.get(content) == b"small"


async def test_what_nobody_has_is_remembered_over_a_restart_and_tried_again(
    chain: LedgerChain, autojump_clock: object
) -> None:
    content = chain.blobs.put(LARGE)
    file_of(chain, content).write_bytes(b"other")
    made = scrubber(chain)
    await made.read_all()
    assert (made.status()["lost"], made.counters["scrub.not_healed"]) == (1, 1)
    chain.close()
    chain.reopen()
    again = scrubber(chain, FakeClient(LARGE))
    await again.retry_lost()
    assert chain.blobs.get(content) == LARGE
    assert again.status()["lost"] == 0


async def test_what_nobody_ever_has_is_given_up(
    chain: LedgerChain, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub, "TRIES_MAX", 3)
    content = chain.blobs.put(LARGE)
    file_of(chain, content).unlink()
    client = FakeClient()
    made = scrubber(chain, client)
    await made.check(content, heal=False)
    for _turn in range(5):
        await made.retry_lost()
    assert len(client.asked) == 3
    assert (made.status()["lost"], made.counters["scrub.given_up"]) == (0, 1)


async def test_a_peer_that_does_not_answer_does_not_stop_the_reading(
    chain: LedgerChain, autojump_clock: object
) -> None:
    content = chain.blobs.put(LARGE)
    file_of(chain, content).unlink()
    made = scrubber(chain, FakeClient(LARGE, answer_s=10 * HEAL_MAX_S))
    await made.read_all()
    assert (made.status()["lost"], made.status()["passes"]) == (1, 1)


async def test_the_rate_is_kept(empty_chain: LedgerChain, autojump_clock: object) -> None:
    size = sum(len(LARGE) for _ in range(20))
    empty_chain.blobs.put_many(bytes([number]) + LARGE[1:] for number in range(20))
    started = trio.current_time()
    await scrubber(empty_chain, scrub_bytes_per_s=100_000).read_all()
    assert trio.current_time() - started == pytest.approx(size / 100_000, rel=0.25)


async def test_a_reading_that_was_broken_off_goes_on_where_it_was(
    empty_chain: LedgerChain, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub, "PAGE_BLOBS", 10)
    count = len(empty_chain.blobs.put_many(b"%d" % number for number in range(100)))
    count = empty_chain.blobs.usage().blobs
    first = scrubber(empty_chain, scrub_bytes_per_s=100_000)
    with trio.move_on_after(5):
        await first.read_all()
    read = first.counters["scrub.checked"]
    assert 10 < read < count
    again = scrubber(empty_chain)
    await again.read_all()
    assert count <= read + again.counters["scrub.checked"] <= count + 10, "a page at most is read twice"
    assert again.status()["passes"] == 1


async def test_passes_follow_each_other_after_the_pause(empty_chain: LedgerChain, autojump_clock: object) -> None:
    empty_chain.blobs.put(b"small")
    with trio.move_on_after(START_S + 2_500):
        await scrubber(empty_chain, scrub_pause_s=1_000).run()
    made = scrubber(empty_chain, scrub_pause_s=1_000)
    assert made.status()["passes"] == 3
    with trio.move_on_after(START_S + 100):  # a restart does not begin anew
        await made.run()
    assert made.status()["passes"] == 3


async def test_lost_blobs_are_looked_for_in_the_pause(chain: LedgerChain, autojump_clock: object) -> None:
    content = chain.blobs.put(LARGE)
    file_of(chain, content).unlink()
    client = FakeClient()
    with trio.move_on_after(START_S + RETRY_S + 100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scrubber(chain, client).run)
            await trio.sleep(START_S + RETRY_S / 2)
            assert not chain.blobs.has(content)
            client.held[content] = LARGE
    assert chain.blobs.has(content)


async def test_rate_0_reads_nothing_and_looks_after_what_is_lost(chain: LedgerChain, autojump_clock: object) -> None:
    content = chain.blobs.put(LARGE)
    file_of(chain, content).unlink()
    made = scrubber(chain, FakeClient(LARGE), scrub_bytes_per_s=0)
    await made.check(content, heal=False)
    with trio.move_on_after(START_S + 1):
        await made.run()
    assert chain.blobs.has(content)
    assert (made.counters["scrub.checked"], made.status()["passes"]) == (1, 0)


async def test_a_disk_that_takes_nothing_ends_nothing(
    chain: LedgerChain, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = chain.blobs.put(LARGE)
    file_of(chain, content).unlink()

    def full(*_arguments: object, **_more: object) -> None:
        raise HomeError("no space left")

    monkeypatch.setattr(chain.blobs, "put", full)
    made = scrubber(chain, FakeClient(LARGE))
    await made.read_all()
    await made.retry_lost()
    assert (made.counters["scrub.not_stored"], made.status()["lost"], made.status()["passes"]) == (2, 1, 1)


async def test_a_disk_that_gives_no_bytes_is_told_and_ends_nothing(
    chain: LedgerChain, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = chain.blobs.put(LARGE)

    def broken(_files: BlobFiles, _content: ContentHash) -> bytes:
        raise HomeError("input/output error")

    monkeypatch.setattr(BlobFiles, "read", broken)
    made = scrubber(chain)
    assert (await made.check(content, heal=True)).verdict is Verdict.UNREADABLE
    await made.read_all()
    assert chain.blobs.has(content)


async def test_what_was_removed_meanwhile_is_not_fetched(chain: LedgerChain) -> None:
    client = FakeClient(LARGE)
    made = scrubber(chain, client)
    absent = content_hash(LARGE)
    assert (await made.check(absent, heal=True, was_here=True)).verdict is Verdict.ABSENT
    assert client.asked == []
    assert (await made.check(absent, heal=False)).verdict is Verdict.ABSENT
    assert await made.check(absent, heal=True) == scrub.Checked(Verdict.HEALED, LARGE)

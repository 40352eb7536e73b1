from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from guard_requests import BLOCK, GENESIS, KEY, OTHER, opened, reopened, vote
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_world.consensus.guard_records import Lock, SignRequest, ValidValue
from agent_world.crypto.hashing import content_hash, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, is_valid
from agent_world.errors import HomeError, LocalError, NotSafe
from agent_world.store import guard_log, schema
from agent_world.store.database import Database
from agent_world.store.guard import GUARD_STEPS, GuardStore
from agent_world.store.home import Home
from agent_world.wire import record
from agent_world.wire.consensus import Step
from agent_world.wire.ids import U32
from agent_world.wire.signed import Signed

# --- signing ---------------------------------------------------------------------------------------------------------


def test_a_permitted_vote_is_signed_and_durable(home: Home) -> None:
    with opened(home) as store:
        signed = store.permit(vote(1))
    opened_signed = record.from_bytes(Signed, signed, size_max=2_000)
    assert opened_signed.body == vote(1).body
    assert is_valid(Domain.VOTE, GENESIS, opened_signed.body, KEY.public_key, opened_signed.sig)
    with opened(home) as store:
        assert store.load().entries_at(1)[0].signed == signed
        assert store.permit(vote(1)) == signed
        assert store.load().sequence == 1
        with pytest.raises(NotSafe):
            store.permit(vote(1, block=OTHER))
        with pytest.raises(NotSafe):
            store.permit(vote(1, block=None))


def test_lock_and_valid_value_outlive_the_process(home: Home) -> None:
    valid = ValidValue(
        round=U32(0), block_hash=BLOCK, block=b"block" * 500, actions=(content_hash(b"a"),), proof=(b"vote" * 60,) * 50
    )  # fmt: skip
    precommit = vote(1, step=Step.PRECOMMIT)
    request = SignRequest(
        height=1, round=U32(0), step=Step.PRECOMMIT, body=precommit.body, block_hash=BLOCK, lock=precommit.lock,
        valid=valid,
    )  # fmt: skip
    state = reopened(home, vote(1), request)
    assert (state.lock, state.valid) == (Lock(round=U32(0), block_hash=BLOCK), valid)
    with opened(home) as store, pytest.raises(NotSafe, match="would be lost"):
        store.permit(vote(1, round_=1))


def test_both_files_hold_it_before_it_is_handed_out(home: Home, crash_images: Callable[[str], None]) -> None:
    with opened(home) as store:
        store.permit(vote(1))
    home.close()
    with Home.open(home.files.path, GENESIS) as again, opened(again, fault=crash_images) as store:
        signed = store.permit(vote(2))
    images: dict[str, Path] = crash_images.taken  # type: ignore[attr-defined]
    assert tuple(images) == GUARD_STEPS
    for image in images.values():
        # A crash at any step: the record is in the log already, nothing was sent, and the same vote is given again.
        with Home.open(image, GENESIS) as after, opened(after) as store:
            assert store.load().height == 2
            assert store.load().sign_floor == 0
            assert store.disagreement == ""
            with pytest.raises(NotSafe):
                store.permit(vote(2, block=OTHER))
            assert store.permit(vote(2)) == signed
            store.permit(vote(3))


def test_the_log_is_synced_at_every_vote(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real_fsync(descriptor)

    with opened(home, fault=events.append) as store:
        monkeypatch.setattr("os.fsync", fsync)
        store.permit(vote(1))
    # Beside the database's transaction, so anywhere before the last step, after which the signature is handed out.
    assert events.index("guard.log") < events.index(GUARD_STEPS[-1])
    events.remove("guard.log")
    assert events == list(GUARD_STEPS)


def test_a_guard_that_could_not_be_written_signs_nothing_more(home: Home) -> None:
    def full(_step: str) -> None:
        raise HomeError("the disk is full")

    with opened(home, fault=full) as store:
        with pytest.raises(HomeError):
            store.permit(vote(1))
        for request in (vote(1), vote(1, block=OTHER), vote(2)):
            with pytest.raises(NotSafe, match="restart"):
                store.permit(request)
    with opened(home) as store:
        store.permit(vote(1))
        store.permit(vote(2))


def test_only_the_holder_of_the_lock_has_a_guard(home: Home) -> None:
    with Home.read_only(home.files.path) as reader, pytest.raises(LocalError, match="lock"):
        opened(reader)


# --- creating --------------------------------------------------------------------------------------------------------


def test_a_guard_belongs_to_one_world_and_key(home: Home, tmp_path: Path) -> None:
    reopened(home, vote(1))
    other_key = KeyPair(bytes(32))
    with pytest.raises(HomeError, match="another"):
        GuardStore.open(home, other_key, committed_height=0, create=True)
    other_world = tmp_path / "other"
    other_genesis = hash32(b"other genesis")
    Home.create(other_world, genesis_hash=other_genesis, genesis_toml="", node_toml="", node_key=KEY)
    for name in ("guard.db", "guard.log"):
        shutil.copy(home.files.path / name, other_world / name)
        with Home.open(other_world, other_genesis) as other, pytest.raises(HomeError, match="another world"):
            opened(other, create=True)
        (other_world / name).unlink()


def test_a_lost_guard_is_made_again_only_on_the_operators_word(home: Home) -> None:
    with pytest.raises(HomeError, match="7 blocks are committed"):
        opened(home, committed_height=7)
    assert not home.files.guard_db.exists()
    assert not home.files.guard_log.exists()
    with opened(home, committed_height=7, create=True) as store:
        # What was signed at height 8 before the loss is not known.
        with pytest.raises(NotSafe):
            store.permit(vote(8))
        signed = store.permit(vote(9))
    with opened(home, committed_height=7) as store:
        assert store.load().sign_floor == 8
        assert store.permit(vote(9)) == signed


def test_create_harms_no_sound_guard(home: Home) -> None:
    state = reopened(home, vote(1), vote(2))
    with opened(home, committed_height=1, create=True) as store:
        assert store.load() == state


# --- the two files ---------------------------------------------------------------------------------------------------


def cut_log(home: Home, records: int) -> None:
    """Cut the last records off the log, as an older copy of it would be."""
    content = guard_log.read(home.files.guard_log, GENESIS, KEY.public_key)
    guard_log.GuardLog.rewrite(home.files.guard_log, GENESIS, KEY.public_key, content.records[:-records]).close()


def execute(home: Home, sql: str) -> None:
    database = Database.open(home.files.guard_db, schema.GUARD)
    database.execute(sql)
    database.close()


def test_a_log_cut_at_every_byte_of_its_last_record_loses_nothing(home: Home) -> None:
    state = reopened(home, vote(1), vote(2))
    size = home.files.guard_log.stat().st_size
    whole = home.files.guard_log.read_bytes()
    cut_log(home, 1)
    start = home.files.guard_log.stat().st_size
    for cut in range(start, size):
        home.files.guard_log.write_bytes(whole[:cut])
        with opened(home) as store:
            assert store.load() == state
            assert store.disagreement == ""
        assert home.files.guard_log.read_bytes() == whole


def test_the_same_with_the_database_as_it_was_before(home: Home) -> None:
    """The other half of a torn write: neither file has the whole record, so it was never handed out."""
    reopened(home, vote(1))
    before = home.files.guard_db.read_bytes()
    start = home.files.guard_log.stat().st_size
    reopened(home, vote(2))
    whole = home.files.guard_log.read_bytes()
    for cut in range(start, len(whole)):
        home.files.guard_db.write_bytes(before)
        home.files.guard_log.write_bytes(whole[:cut])
        with opened(home) as store:
            assert (store.load().height, store.load().sign_floor) == (1, 0)
    home.files.guard_db.write_bytes(before)
    home.files.guard_log.write_bytes(whole)
    with opened(home) as store:
        assert store.load().height == 2
        with pytest.raises(NotSafe):
            store.permit(vote(2, block=OTHER))


OLDER = {
    "log two records behind": lambda home: cut_log(home, 2),
    "database two records behind": lambda home: execute(home, "DELETE FROM records WHERE sequence >= 2"),
    "log gone": lambda home: home.files.guard_log.unlink(),
    "log empty": lambda home: home.files.guard_log.write_bytes(b""),
    "database gone": lambda home: home.files.guard_db.unlink(),
    "database empty": lambda home: home.files.guard_db.write_bytes(b""),
    "database scrambled": lambda home: home.files.guard_db.write_bytes(bytes(40_000)),
    "a row changed": lambda home: execute(home, "UPDATE records SET checksum = x'00' WHERE sequence = 2"),
    "the first row gone": lambda home: execute(home, "DELETE FROM records WHERE sequence = 2"),
    "log flipped": lambda home: flip(home.files.guard_log, guard_log.HEADER_BYTES + 20),
    "log header flipped": lambda home: flip(home.files.guard_log, 20),
}


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what", OLDER)
def test_files_that_disagree_forbid_every_height_they_name(home: Home, what: str) -> None:
    reopened(home, vote(1), vote(2), vote(3), vote(3, step=Step.PRECOMMIT))
    OLDER[what](home)
    with opened(home, committed_height=2) as store:
        assert store.load().sign_floor == 3
        assert "nothing is signed up to height 3" in store.disagreement
        for height in (1, 2, 3):
            with pytest.raises(NotSafe):
                store.permit(vote(height, round_=5))
        signed = store.permit(vote(4))
        state = store.load()
    with opened(home, committed_height=2) as store:
        assert store.load() == state
        assert store.disagreement == ""
        assert store.permit(vote(4)) == signed


def test_a_damaged_file_is_kept_for_inspection(home: Home) -> None:
    reopened(home, vote(1))
    home.files.guard_db.write_bytes(b"scrambled")
    opened(home).close()
    flip(home.files.guard_log, guard_log.HEADER_BYTES - 1)
    opened(home).close()
    assert home.files.path.joinpath("guard.db.aside-1").read_bytes() == b"scrambled"
    # The log was sound when the database was not, and yet what it said then is kept too.
    assert {path.name for path in home.files.path.glob("guard.log.aside-*")} == {
        "guard.log.aside-1",
        "guard.log.aside-2",
    }


def test_two_damaged_files_are_refused_until_the_operator_gives_up_their_heights(home: Home) -> None:
    reopened(home, vote(1), vote(2), vote(5))
    flip(home.files.guard_log, guard_log.HEADER_BYTES + 20)
    execute(home, "UPDATE records SET checksum = x'00' WHERE sequence = 1")
    before = home.files.guard_log.read_bytes()
    with pytest.raises(HomeError, match="both files"):
        opened(home, committed_height=2)
    assert home.files.guard_log.read_bytes() == before
    with opened(home, committed_height=2, create=True) as store:
        assert store.load().sign_floor == 5
        with pytest.raises(NotSafe):
            store.permit(vote(5))
        store.permit(vote(6))


def test_both_files_scrambled_forbid_the_height_after_the_last_committed(home: Home) -> None:
    reopened(home, vote(1))
    for path in (home.files.guard_db, home.files.guard_log):
        path.write_bytes(b"scrambled")
    with pytest.raises(HomeError, match="both files"):
        opened(home, committed_height=7)
    with opened(home, committed_height=7, create=True) as store:
        assert store.load().sign_floor == 8


def test_a_crash_while_the_guard_is_made(home: Home) -> None:
    """The log comes first; without the database, or with an empty one, there is nothing to be afraid of."""
    opened(home).close()
    home.files.guard_db.write_bytes(b"")
    with opened(home) as store:
        assert (store.load().sign_floor, store.disagreement) == (0, "")
        store.permit(vote(1))


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_old_heights_are_pruned_and_the_log_rewritten(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_log, "COMPACT_BYTES", 4_000)
    sizes = []
    with opened(home) as store:
        for height in range(1, 60):
            store.permit(vote(height))
            signed = store.permit(vote(height, step=Step.PRECOMMIT))
            sizes.append(home.files.guard_log.stat().st_size)
        state = store.load()
    assert max(sizes) < 8_000
    assert sizes != sorted(sizes)
    with opened(home) as store:
        assert store.load() == state
        assert store.disagreement == ""
        assert {entry.height for entry in state.entries} == {56, 57, 58, 59}
        assert store.permit(vote(59, step=Step.PRECOMMIT)) == signed


# --- property --------------------------------------------------------------------------------------------------------

REQUESTS = st.tuples(
    st.integers(1, 4), st.integers(0, 3), st.sampled_from([Step.PREVOTE, Step.PRECOMMIT]),
    st.sampled_from([BLOCK, OTHER, None]),
)  # fmt: skip
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("sign"), REQUESTS), st.tuples(st.sampled_from(["crash", "lose_log", "lose_db"]), st.none())
    ),
    max_size=25,
)


@given(acts=ACTS, crash_at=st.sampled_from(GUARD_STEPS))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_two_bodies_are_ever_signed_for_one_vote(home: Home, acts: list[tuple[str, object]], crash_at: str) -> None:
    """Whatever is asked, whenever the process dies, and whichever single file is lost or set back."""
    for path in home.files.path.glob("guard*"):
        path.unlink()
    signed: dict[tuple[int, int, Step], bytes] = {}
    crash = False

    def fault(step: str) -> None:
        if crash and step == crash_at:
            raise InterruptedError

    store = opened(home, fault=fault)
    for act, argument in acts:
        if act == "sign":
            height, round_, step, block = argument  # type: ignore[misc]
            try:
                data = store.permit(vote(height, round_, step, block))
            except (NotSafe, InterruptedError):
                continue
            body = record.from_bytes(Signed, data, size_max=2_000).body
            assert body == vote(height, round_, step, block).body
            assert signed.setdefault((height, round_, step), data) == data
        else:
            crash = act == "crash" and not crash
            store.close()
            if act == "lose_log":
                home.files.guard_log.unlink()
            elif act == "lose_db":
                home.files.guard_db.unlink()
            store = opened(home, fault=fault)
    store.close()

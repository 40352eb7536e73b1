from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from guard_requests import BLOCK, GENESIS, KEY, OTHER, opened, reopened, vote
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_world.consensus.guard_records import Lock, SignRequest, ValidValue
from agent_world.crypto.hashing import content_hash, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, is_valid
from agent_world.errors import GuardLost, HomeError, LocalError, NotSafe
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
            with pytest.raises(NotSafe, match="opened again"):
                store.permit(request)
        with pytest.raises(NotSafe, match="opened again"):
            store.raise_floor(5)
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
        GuardStore.open(home, other_key, committed_height=0, lost=True)
    other_world = tmp_path / "other"
    other_genesis = hash32(b"other genesis")
    Home.create(other_world, genesis_hash=other_genesis, genesis_toml="", node_toml="", node_key=KEY)
    for name in ("guard.db", "guard.log"):
        shutil.copy(home.files.path / name, other_world / name)
        with Home.open(other_world, other_genesis) as other, pytest.raises(HomeError, match="another world"):
            opened(other, lost=True)
        (other_world / name).unlink()


def test_a_lost_guard_is_made_again_only_on_the_operators_word(home: Home) -> None:
    with pytest.raises(GuardLost, match="7 blocks are committed") as error:
        opened(home, committed_height=7)
    assert f"guard init --home {home.files.path} --lost" in str(error.value)
    assert not home.files.guard_db.exists()
    assert not home.files.guard_log.exists()
    with opened(home, committed_height=7, lost=True) as store:
        # What was signed at height 8 and above before the loss is not known.
        assert (store.load().sign_floor, store.load().watching) == (8, True)
        for height in (8, 9, 100):
            with pytest.raises(NotSafe):
                store.permit(vote(height))
    with opened(home, committed_height=9) as store:
        with pytest.raises(NotSafe):
            store.permit(vote(10))
        store.settle(12)
        with pytest.raises(NotSafe):
            store.permit(vote(12))
        signed = store.permit(vote(13))
    with opened(home, committed_height=12) as store:
        assert (store.load().sign_floor, store.load().watching, store.disagreement) == (12, False, "")
        assert store.permit(vote(13)) == signed


def test_a_guard_that_waits_is_resumed_by_the_operators_word_alone(home: Home) -> None:
    with opened(home, committed_height=7, lost=True) as store:
        store.resume(7)
        assert (store.load().sign_floor, store.load().watching) == (7, False)
        with pytest.raises(NotSafe):
            store.permit(vote(7))
        signed = store.permit(vote(8))
        with pytest.raises(LocalError):
            store.resume(7)
    with opened(home, committed_height=7) as store:
        assert (store.load().sign_floor, store.load().watching, store.disagreement) == (7, False, "")
        assert store.permit(vote(8)) == signed
        with pytest.raises(NotSafe):
            store.permit(vote(8, block=OTHER))


def test_a_crash_while_a_guard_is_resumed_leaves_one_that_waits(
    home: Home, crash_images: Callable[[str], None]
) -> None:
    reopened(home, vote(7), vote(8))
    home.files.guard_db.unlink()
    with opened(home, committed_height=7, fault=crash_images) as store:
        store.resume(7)
    home.close()
    images: dict[str, Path] = crash_images.taken  # type: ignore[attr-defined]
    assert tuple(images) == GUARD_STEPS[1:]
    for image in images.values():
        with Home.open(image, GENESIS) as after, opened(after, committed_height=7) as store:
            assert (store.load().sign_floor, store.load().watching) == (8, True)
    with Home.open(home.files.path, GENESIS) as after, opened(after, committed_height=7) as store:
        assert (store.load().sign_floor, store.load().watching, store.disagreement) == (7, False, "")
        with pytest.raises(NotSafe):
            store.permit(vote(8, block=OTHER))


def test_a_guard_that_was_made_once_is_missed_even_before_the_first_block(home: Home) -> None:
    reopened(home, vote(1))
    for name in ("guard.db", "guard.log"):
        (home.files.path / name).unlink()
    with pytest.raises(GuardLost):
        opened(home)
    with pytest.raises(GuardLost):
        opened(home, was_seated=False)
    with opened(home, lost=True) as store, pytest.raises(NotSafe):
        store.permit(vote(1, block=OTHER))


def test_a_key_that_was_in_no_set_starts_with_a_new_guard_above_the_chain(home: Home) -> None:
    with opened(home, committed_height=7, was_seated=False) as store:
        with pytest.raises(NotSafe):
            store.permit(vote(7))
        store.permit(vote(8))


def test_heights_that_others_decided_are_not_signed(home: Home) -> None:
    """A guard restored from an old copy beside a chain that went on, and a validator that caught up."""
    reopened(home, vote(2))
    with opened(home, committed_height=50) as store:
        assert store.load().sign_floor == 50
        assert store.raise_floor(50) is False
        for height in (3, 50):
            with pytest.raises(NotSafe):
                store.permit(vote(height))
        before = store.load().sequence
        assert store.raise_floor(90)
        assert store.load().sequence == before + 1
        with pytest.raises(NotSafe):
            store.permit(vote(90))
        store.permit(vote(91))
        assert store.raise_floor(91) is False  # it voted there: the entry forbids all below
        state = store.load()
    with opened(home, committed_height=91) as store:
        assert store.load() == state
        assert store.disagreement == ""


def test_a_crash_while_the_floor_is_raised(home: Home, crash_images: Callable[[str], None]) -> None:
    reopened(home, vote(1), vote(2))
    with opened(home, fault=crash_images) as store:
        store.raise_floor(9)
    images: dict[str, Path] = crash_images.taken  # type: ignore[attr-defined]
    assert tuple(images) == GUARD_STEPS
    for image in images.values():
        with Home.open(image, GENESIS) as after, opened(after) as store:
            assert (store.load().sign_floor, store.load().watching, store.disagreement) == (9, False, "")
            store.permit(vote(10))


def test_the_operators_word_harms_no_sound_guard(home: Home) -> None:
    state = reopened(home, vote(1), vote(2))
    with opened(home, committed_height=1, lost=True) as store:
        assert store.load() == state


# --- property --------------------------------------------------------------------------------------------------------

REQUESTS = st.tuples(
    st.integers(1, 4), st.integers(0, 3), st.sampled_from([Step.PREVOTE, Step.PRECOMMIT]),
    st.sampled_from([BLOCK, OTHER, None]),
)  # fmt: skip
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("sign"), REQUESTS),
        st.tuples(st.sampled_from(["crash", "lose_log", "lose_db", "begin"]), st.none()),
    ),
    max_size=25,
)


@given(acts=ACTS, crash_at=st.sampled_from(GUARD_STEPS))
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_no_two_bodies_are_ever_signed_for_one_vote(home: Home, acts: list[tuple[str, object]], crash_at: str) -> None:
    """Whatever is asked, whenever the process dies, and whichever single file is lost or set back."""
    for path in home.files.path.glob("guard*"):
        path.unlink()
    home.database.execute("DELETE FROM guard_made")
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
        elif act != "begin":
            crash = act == "crash" and not crash
            store.close()
            if act == "lose_log":
                home.files.guard_log.unlink()
            elif act == "lose_db":
                home.files.guard_db.unlink()
            store = opened(home, fault=fault)
        else:
            # The node sees that a height begins now: nothing was signed there before.
            if store.load().watching:
                with suppress(NotSafe, InterruptedError):
                    store.settle(max([0, *(place[0] for place in signed)]))
    store.close()

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from pending_actions import NOW_MS, act, done, pool

from agent_world.config import BatchRules, MempoolConfig
from agent_world.errors import Refused
from agent_world.sequencer.mempool import Mempool
from agent_world.wire.ids import ActorId

# --- T-9.16: invariants under random use ------------------------------------------------------------------------------


def check_invariants(mempool: Mempool, config: MempoolConfig) -> None:
    waiting = list(mempool.arrivals())
    assert len(waiting) == len(mempool) <= config.max_actions
    assert mempool.size_bytes == sum(action.size_bytes for action in waiting) <= config.max_bytes
    for actor in {action.actor_id for action in waiting}:
        nonces = [action.nonce for action in waiting if action.actor_id == actor]
        assert len(nonces) == len(set(nonces)) == mempool.pending_of(actor) <= config.max_per_actor
    assert len(mempool._ready) <= 2 * config.max_actions + 65


def expected_batch(mempool: Mempool, rules: BatchRules, next_nonces: dict[ActorId, int], drift_ms: int) -> list[bytes]:
    """the batch rules with K-6.7, said plainly: sort all candidates anew after each action."""
    waiting = {(action.actor_id, action.nonce): action for action in mempool.arrivals()}
    following = dict(next_nonces)
    taken, size, misfits, blocked = [], 0, 0, set()
    while len(taken) < rules.max_actions and misfits <= rules.scan_past_misfits:
        heads = [waiting[at] for at in following.items() if at in waiting and at[0] not in blocked]
        if not heads:
            break
        head = min(heads, key=lambda action: (min(max(action.timestamp_ms, -drift_ms), drift_ms), action.action_id))
        if head.size_bytes > rules.max_payload_bytes:
            blocked.add(head.actor_id)
        elif size + head.size_bytes > rules.max_payload_bytes:
            blocked.add(head.actor_id)
            misfits += 1
        else:
            taken.append(head.action_id)
            size += head.size_bytes
            following[head.actor_id] += 1
    return taken


ACTORS = [ActorId(name) for name in "abcd"]
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"), st.sampled_from(ACTORS), st.integers(1, 9), st.integers(-30, 30), st.integers(1, 70),
            st.sampled_from(["", "other"]),
        ),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("commit"), st.integers(0, 3)),
        st.tuples(st.just("reserve"), st.integers(1, 6), st.integers(40, 150), st.integers(0, 2)),
    ),
    max_size=50,
)  # fmt: skip


@given(steps=STEPS, evict=st.booleans(), capacity=st.integers(1, 12))
@settings(deadline=None, max_examples=200)
def test_t_9_16_invariants_under_random_use(steps: list[tuple[object, ...]], evict: bool, capacity: int) -> None:
    config = MempoolConfig(
        max_actions=capacity, max_per_actor=4, max_bytes=400, nonce_window=5, evict_oldest=evict, drift_ms=20
    )
    mempool = Mempool(config)
    next_nonces = dict.fromkeys(ACTORS, 1)
    for kind, *arguments in steps:
        if kind == "add":
            actor, nonce, at_ms, size, salt = arguments
            action = act(actor, nonce, at_ms=at_ms, size=size, salt=salt)  # type: ignore[arg-type]
            before = list(mempool.arrivals())
            try:
                assert mempool.add(action, 0, next_nonces[actor]) == (action not in before)  # type: ignore[index]
                assert action in list(mempool.arrivals())
            except Refused:
                assert list(mempool.arrivals()) == before
        elif kind == "remove":
            waiting = list(mempool.arrivals())
            if waiting:
                mempool.remove(waiting[arguments[0] % len(waiting)].action_id)  # type: ignore[operator]
        elif kind == "commit":
            batch = mempool.reserve(BatchRules(max_payload_bytes=1000), next_nonces.__getitem__)
            taken = batch.actions[: arguments[0]]  # type: ignore[misc]
            for action in taken:
                next_nonces[action.actor_id] += 1
            mempool.on_committed(map(done, taken))
            assert not {action.action_id for action in taken} & {action.action_id for action in mempool.arrivals()}
        else:
            rules = BatchRules(max_actions=arguments[0], max_payload_bytes=arguments[1], scan_past_misfits=arguments[2])  # type: ignore[arg-type]
            expected = expected_batch(mempool, rules, next_nonces, config.drift_ms)
            batch = mempool.reserve(rules, next_nonces.__getitem__)
            assert [action.action_id for action in batch.actions] == expected
            assert batch.size_bytes <= rules.max_payload_bytes
            assert mempool.reserve(rules, next_nonces.__getitem__) == batch
        check_invariants(mempool, config)


def test_a_full_pool_of_ten_thousand_is_cut_quickly_enough_to_count_steps() -> None:
    """Looking up nonces of the state costs most: only actors that are considered may be asked for."""
    mempool = pool()
    for number in range(10_000):
        mempool.add(act(ActorId(f"actor{number}"), 1, at_ms=NOW_MS + number % 100), NOW_MS, 1)
    asked: list[ActorId] = []

    def counting(actor: ActorId) -> int:
        asked.append(actor)
        return 1

    assert len(mempool.reserve(BatchRules(), counting).actions) == 512
    assert len(asked) <= 513

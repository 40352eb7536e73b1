"""config.py: a component's settings are checked when they are built."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from agent_world import config
from agent_world.config import MAINNET, MINIMAL, NodeConfig, require
from agent_world.errors import UsageError

COMPONENTS = ["consensus", "batch", "mempool", "net", "storage", "replicas"]


def test_require() -> None:
    require(True, "never shown")
    with pytest.raises(UsageError, match="say this"):
        require(False, "say this")


def test_the_defaults_are_mainnet() -> None:
    assert NodeConfig() == MAINNET


def test_minimal_is_faster_and_changes_no_limit() -> None:
    assert MINIMAL.consensus.propose_timeout_ms < MAINNET.consensus.propose_timeout_ms
    assert (MINIMAL.batch, MINIMAL.mempool) == (MAINNET.batch, MAINNET.mempool)


def test_defaults_of_the_specification() -> None:
    """Source: the reference system"""
    assert (MAINNET.mempool.max_actions, MAINNET.mempool.max_per_actor) == (10_000, 256)
    assert (MAINNET.batch.max_actions, MAINNET.batch.max_payload_bytes) == (512, 524_288)
    assert (MAINNET.net.inbox_messages_max, MAINNET.net.peers_known_max, MAINNET.net.peer_ttl_s) == (
        1_024,
        1_024,
        600.0,
    )


@pytest.mark.parametrize("component", COMPONENTS)
def test_configs_are_frozen(component: str) -> None:
    part = getattr(MAINNET, component)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(part, attrs.fields(type(part))[0].name, 1)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (config.ConsensusConfig, "propose_timeout_ms", 0),
        (config.ConsensusConfig, "vote_timeout_ms", 0),
        (config.ConsensusConfig, "rebroadcast_ms", 0),
        (config.ConsensusConfig, "drift_max_ms", 0),
        (config.ConsensusConfig, "block_interval_ms", -1),
        (config.ConsensusConfig, "timeout_delta_ms", -1),
        (config.ConsensusConfig, "empty_block_interval_ms", -1),
        (config.ReplicasConfig, "target_replicas_per_blob", -1),
        (config.ReplicasConfig, "target_replicas_per_blob", 65),
        (config.ReplicasConfig, "poll_interval_ms", 0),  # T-8.13
        (config.ReplicasConfig, "max_repairs_per_round", -1),
        (config.ReplicasConfig, "max_content_hash_samples_per_round", 0),
        (config.ReplicasConfig, "max_content_hash_samples_per_round", 1_025),
        (config.ReplicasConfig, "rebalance_source_load_min_per_mille", 450),
        (config.ReplicasConfig, "rebalance_source_load_min_per_mille", 1_001),
        (config.ReplicasConfig, "rebalance_target_load_max_per_mille", 850),
        (config.ChallengeConfig, "interval_ms", -1),
        (config.ChallengeConfig, "settle_ms", -1),
        (config.ChallengeConfig, "contained_attempts_max", 0),
        (config.ChallengeConfig, "max_sample_bytes", 2**20 + 1),
        (config.ChallengeConfig, "challenge_ttl_ms", 600_001),
        (config.ChallengeConfig, "allowed_clock_skew_ms", -1),
        (config.ChallengeConfig, "max_checks_per_round", 2**32),
        (config.ChallengeConfig, "failure_backoff_max_ms", 59_999),
        (config.ChallengeConfig, "backoff_multiplier_unknown", 0),
        (config.BatchRules, "max_actions", 0),
        (config.BatchRules, "max_payload_bytes", 0),
        (config.BatchRules, "scan_past_misfits", -1),
        (config.MempoolConfig, "max_actions", 0),
        (config.MempoolConfig, "max_per_actor", 0),
        (config.MempoolConfig, "nonce_window", 0),
        (config.NetConfig, "connections_max", 0),
        (config.NetConfig, "upgrade_timeout_s", 0),
        (config.NetConfig, "dial_timeout_s", 0),
        (config.NetConfig, "redial_min_s", 0),
        (config.NetConfig, "request_timeout_s", 0),
        (config.NetConfig, "redial_max_s", 0.1),
        (config.StorageConfig, "pull_attempts_max", 0),
        (config.StorageConfig, "pull_retry_ms", 0),
        (config.StorageConfig, "scrub_bytes_per_s", -1),
        (config.StorageConfig, "scrub_pause_s", 0.0),
    ],
)
def test_what_cannot_work_is_refused_by_its_name(kind: type, field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=field):
        kind(**{field: value})


def test_zero_is_allowed_where_it_means_at_once() -> None:
    assert config.ConsensusConfig(block_interval_ms=0, timeout_delta_ms=0, empty_block_interval_ms=0)
    assert config.BatchRules(scan_past_misfits=0)


def test_bitswap_is_off_by_default_and_its_numbers_are_above_0() -> None:
    assert not MAINNET.bitswap.enabled
    assert not MINIMAL.bitswap.enabled
    for name in ("bytes_per_s", "look_every_s"):
        with pytest.raises(UsageError, match=f"bitswap.{name}"):
            config.BitswapConfig(**{name: 0.0})

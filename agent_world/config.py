"""One frozen config a component, checked when built; presets MAINNET (the defaults) and MINIMAL (tests)."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.errors import UsageError
from agent_world.wire import limits


def require(condition: bool, message: str) -> None:
    """Raise UsageError with ``message`` unless the condition holds."""
    if not condition:
        raise UsageError(message)


@attrs.frozen(slots=True, kw_only=True)
class ConsensusConfig:
    """Timing of the round engine; a node's own affair, not part of the world's rules."""

    block_interval_ms: int = 1_000
    """Pause between a commit and the next height's first proposal."""
    create_empty_blocks: bool = True
    empty_block_interval_ms: int = 5_000
    """With nothing to order, a block is made this long after the last one."""
    propose_timeout_ms: int = 1_000
    """Wait for round 0's proposal; source: three times the slowest block of `make demo` (fetch + execute)."""
    gone_timeout_ms: int = 200
    """Wait for round 0's proposal of a validator whose link has ended, instead of ``propose_timeout_ms`` if that is
    longer; what it sent before its end is here by then."""
    vote_timeout_ms: int = 500
    """Wait for stragglers once votes of the required stake are there but do not agree."""
    timeout_delta_ms: int = 250
    """Timeouts of round r are longer by this times r (r + 1) / 2."""
    rebroadcast_ms: int = 500
    """Own messages are sent again after this, then at doubling intervals, until the height moves."""
    drift_max_ms: int = 10_000
    """How far ahead of the local clock a fresh proposal's time may be."""

    def __attrs_post_init__(self) -> None:
        for name in ("propose_timeout_ms", "vote_timeout_ms", "rebroadcast_ms", "drift_max_ms"):
            require(getattr(self, name) > 0, f"consensus.{name} must be above 0")
        for name in ("block_interval_ms", "timeout_delta_ms", "empty_block_interval_ms", "gone_timeout_ms"):
            require(getattr(self, name) >= 0, f"consensus.{name} must not be negative")


@attrs.frozen(slots=True, kw_only=True)
class BatchRules:
    """What fits into one block; source: the reference system"""

    max_actions: int = limits.BLOCK_ACTIONS_MAX
    max_payload_bytes: int = limits.BLOCK_ACTION_BYTES_MAX
    scan_past_misfits: int = 64
    """Actions that do not fit may be passed over this many times for smaller ones (K-6.7); 0 ends at the first."""

    def __attrs_post_init__(self) -> None:
        require(self.max_actions > 0, "batch.max_actions must be above 0")
        require(self.max_payload_bytes > 0, "batch.max_payload_bytes must be above 0")
        require(self.scan_past_misfits >= 0, "batch.scan_past_misfits must not be negative")


@attrs.frozen(slots=True, kw_only=True)
class MempoolConfig:
    """Pending actions; source of the first two: the reference system"""

    max_actions: int = 10_000
    max_per_actor: int = 256
    max_bytes: int = 64 * limits.MIB
    """Encoded size of all pending actions; 10,000 of the largest would be 640 MB."""
    nonce_window: int = 256
    """How far above the next nonce an action may be and still wait here."""
    evict_oldest: bool = False
    """When full: drop the oldest arrival (reference behaviour) instead of refusing the newcomer with ERR_BUSY,
    which a flood of fresh actors cannot abuse (K-6.6)."""
    drift_ms: int = 10_000
    """An action's timestamp is clamped to its arrival +- this for ordering."""

    def __attrs_post_init__(self) -> None:
        for name in ("max_actions", "max_per_actor", "max_bytes", "nonce_window"):
            require(getattr(self, name) > 0, f"mempool.{name} must be above 0")


FASTER_PARTS: Final = ("noise", "yamux")
"""Parts of the libp2p library that have a faster replacement here."""


@attrs.frozen(slots=True, kw_only=True)
class NetConfig:
    """The libp2p host; docs/net.md has the reason for each default."""

    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)
    bootstrap: tuple[str, ...] = ()
    mdns: bool = False
    """Announce this node on the local network and try the peers that are found there."""
    connections_max: int = 256
    """All connections; a further one is refused."""
    trim_above_percent: int = 75
    """With more peers than this share of ``connections_max`` the least useful are let go …"""
    trim_to_percent: int = 60
    """… until this share is left; validators, peers named by the operator and own dials stay."""
    connections_per_peer_max: int = 3
    """Two peers that dial each other at once have two connections for a while."""
    connections_per_ip_max: int = 64
    """Inbound, of one address, whoever they say they are; an IPv6 address counts by its /64."""
    connects_per_ip_per_s: float = 20.0
    """Inbound connections that one address may begin."""
    connects_per_ip_burst: int = 200
    handshakes_max: int = 128
    """Inbound connections whose peer is not known yet."""
    handshakes_per_ip_max: int = 32
    streams_per_peer_max: int = 192
    """Inbound streams of one peer: gossip, identify, DHT, kept streams and bodies of 64 requests in flight."""
    requests_per_s: float = 4_000.0
    """Requests of one peer, without those named below; this and every further rate is a limit for each peer, by
    which others are refused and to four fifths of which this node keeps itself. What all peers together send above an
    eighth of it each is limited to the same rate once more."""
    requests_burst: int = 8_000
    content_requests_per_s: float = 500.0
    """Requests for blobs, blocks, snapshots and segments."""
    content_requests_burst: int = 2_000
    submits_per_s: float = 500.0
    """Requests that cost most to answer: actions handed in, hellos, questions for pending actions."""
    submits_burst: int = 2_000
    messages_per_s: float = 1_000.0
    """One-way messages, such as votes."""
    messages_burst: int = 4_000
    gossip_per_s: float = 3_000.0
    """Gossip messages, counted against whoever forwards them."""
    gossip_burst: int = 6_000
    bytes_per_s: float = 32.0 * limits.MIB
    """Bytes of requests, messages and gossip together; answers that were asked for do not count."""
    bytes_burst: int = 128 * limits.MIB
    ban_s: float = 3_600.0
    """How long a peer is banned whose score is too low."""
    bans_per_ip_max: int = 6
    """After so many bans within ``ban_s`` of peers of one address nobody new gets in from there, and from half of it on
    only few; addresses of validators and of peers named by the operator are spared."""
    upgrade_timeout_s: float = 5.0
    """Time for a handshake."""
    dial_timeout_s: float = 5.0
    redial_min_s: float = 0.2
    redial_max_s: float = 5.0
    heartbeat_s: float = 1.0
    """Gossip heartbeat."""
    hello_interval_s: float = 2.0
    """Heads and peers are exchanged again this often."""
    request_timeout_s: float = 10.0
    requests_in_flight_per_peer_max: int = 64
    peers_known_max: int = 1_024
    """Learned addresses kept; source: the reference system"""
    peer_ttl_s: float = 600.0
    inbox_messages_max: int = 1_024
    """Messages waiting in one subscription; the oldest is dropped and counted."""
    faster: tuple[str, ...] = FASTER_PARTS
    """Parts of the library to replace; the bytes on the wire are those of the same protocols either way."""

    def __attrs_post_init__(self) -> None:
        unknown = sorted(set(self.faster) - set(FASTER_PARTS))
        require(not unknown, f"net.faster knows {', '.join(FASTER_PARTS)} and not {', '.join(unknown)}")
        for field in attrs.fields(NetConfig):
            value = getattr(self, field.name)
            require(isinstance(value, bool | tuple) or value > 0, f"net.{field.name} must be above 0")
        require(
            0 < self.trim_to_percent <= self.trim_above_percent <= 100,
            "net.trim_to_percent must be above 0 and not above net.trim_above_percent, which is 100 at most",
        )
        require(self.redial_max_s >= self.redial_min_s, "net.redial_max_s must not be below net.redial_min_s")


@attrs.frozen(slots=True, kw_only=True)
class StorageConfig:
    """The storage role and the blob store."""

    inline_bytes_max: int = 16 * 1024
    """Blobs up to this size live in SQLite, larger ones as files; source: iroh-blobs' hybrid store."""
    bulk_sync: bool = True
    """A batch of files is made durable by syncing their whole file system (Linux); false: file by file. For a home on
    a file system that other programs write a lot to, or on one that takes a sync of the whole for done at once."""
    pull_attempts_max: int = 5
    """After so many failed tries over all peers a blob is marked unavailable."""
    pull_retry_ms: int = 1_000
    """Pause before the second try; doubles with every further one."""

    quota_bytes: int = 10 * 1024 * limits.MIB
    """For content that is not the chain's: what others put here, pulled or written; above it such writes are refused.
    Source: Kubo's StorageMax, which is not enforced there unless asked for (kubo, pkc-js#225)."""
    gc_above_percent: int = 90
    """With more than this share of the quota used, content that nothing reaches goes without waiting for its grace."""
    gc_period_s: float = 3_600.0
    """Garbage is looked for this often; source: Kubo's GCPeriod."""
    gc_grace_s: float = 3_600.0
    """Content that nothing reaches stays this long after that was first seen."""
    snapshot_every_heights: int = 10_000
    """A storage node keeps the snapshot after every so many heights at hand and provides it; 0 keeps none."""

    scrub_bytes_per_s: int = 4 * limits.MIB
    """All stored blobs are read at this rate to find damage, again and again; 0 reads none. A terabyte takes three
    days, and a hundredth of a core."""
    scrub_pause_s: float = 86_400.0
    """Between the end of one such pass and the next."""

    def __attrs_post_init__(self) -> None:
        require(self.snapshot_every_heights >= 0, "storage.snapshot_every_heights must not be negative")
        for name in ("quota_bytes", "gc_period_s"):
            require(getattr(self, name) > 0, f"storage.{name} must be above 0")
        require(self.gc_grace_s >= 0, "storage.gc_grace_s must not be negative")
        require(0 < self.gc_above_percent <= 100, "storage.gc_above_percent must be in 1..100")
        require(self.scrub_bytes_per_s >= 0, "storage.scrub_bytes_per_s must not be negative")
        require(self.scrub_pause_s > 0, "storage.scrub_pause_s must be above 0")
        require(self.pull_attempts_max > 0, "storage.pull_attempts_max must be above 0")
        require(self.pull_retry_ms > 0, "storage.pull_retry_ms must be above 0")


@attrs.frozen(slots=True, kw_only=True)
class LeaseConfig:
    """How a validator deals with the lease of the world's single writer."""

    keep: bool = False
    """Take the lease when nobody holds it, and keep it."""
    ttl_ms: int = 30_000
    """Asked for at a time, renewed when half of it is over; several empty blocks fit into it."""

    def __attrs_post_init__(self) -> None:
        require(
            0 < self.ttl_ms <= limits.LEASE_TTL_MS_MAX,
            f"lease.ttl_ms must be above 0 and at most {limits.LEASE_TTL_MS_MAX}",
        )


U32_MAX: Final = 2**32 - 1


@attrs.frozen(slots=True, kw_only=True)
class ChallengeConfig:
    """How storage nodes are challenged; docs/challenge.md has the reason for each default."""

    interval_ms: int = 60_000
    """Pause between two rounds; 0 makes none by itself."""
    settle_ms: int = 600_000
    """Content of objects of younger blocks is not asked for: a storage node may be about to fetch it."""
    contained_attempts_max: int = 8
    """A question that a live node does not answer in time is put so often before it counts as failed."""
    max_sample_bytes: int = 65_536
    challenges_per_tick: int = 1
    challenge_ttl_ms: int = 30_000
    allowed_clock_skew_ms: int = 5_000
    max_checks_per_round: int = U32_MAX
    failure_backoff_base_ms: int = 60_000
    """After a failed round the target rests for this, then for twice as long, and so on; 0: it never rests."""
    failure_backoff_max_ms: int = 3_600_000
    backoff_multiplier_hash_mismatch: int = 4
    """Damaged bytes are being healed: asking again at once shows the same."""
    backoff_multiplier_missing_sample: int = 2
    backoff_multiplier_timeout: int = 1
    backoff_multiplier_read_io_error: int = 4
    backoff_multiplier_signature_invalid: int = 8
    backoff_multiplier_unknown: int = 1

    def __attrs_post_init__(self) -> None:
        at_least_zero = ("interval_ms", "settle_ms", "allowed_clock_skew_ms", "failure_backoff_base_ms")
        for field in attrs.fields(ChallengeConfig):
            name, value = field.name, getattr(self, field.name)
            if name in (*at_least_zero, "failure_backoff_max_ms"):
                require(0 <= value <= limits.I64_MAX, f"challenge.{name} must be a non-negative integer")
            else:
                require(0 < value <= U32_MAX, f"challenge.{name} must be a positive integer")
        require(self.max_sample_bytes <= limits.BLOB_BYTES_MAX, "challenge.max_sample_bytes is above a blob's size")
        require(
            self.challenge_ttl_ms <= limits.CHALLENGE_TTL_MS_MAX,
            f"challenge.challenge_ttl_ms must be at most {limits.CHALLENGE_TTL_MS_MAX}",
        )
        require(
            self.failure_backoff_max_ms >= self.failure_backoff_base_ms,
            "challenge.failure_backoff_max_ms must not be below challenge.failure_backoff_base_ms",
        )


@attrs.frozen(slots=True, kw_only=True)
class ReplicationConfig:
    """The record log: what its writer checks before it publishes, and how much waits."""

    network_samples_per_check: int = 3
    """Contents of the log that peers are asked for before more is published; source: seed Gap 2."""
    required_matches: int = 2
    """Of them must be given, byte by byte; fewer if fewer exist, and at least one; source: seed Gap 2."""
    gate_peers_per_sample: int = 3
    """Peers asked for one sample, one after the other, until one gives it."""
    gate_grace_records: int = 64
    """The newest records are no samples: others may be fetching them just now. As many as are published at once."""
    gate_timeout_ms: int = 2_000
    """Longest wait for one answer."""
    gate_retry_ms: int = 1_000
    """Pause after a check that failed; doubles with every further one."""
    gate_retry_max_ms: int = 30_000
    publish_batch: int = 64
    """Records published after one check."""
    outbox_max: int = 4_096
    """Files and heights that wait to be published. Above it files are refused; heights wait in the chain."""
    reorder_max: int = 256
    """Records kept that came before those they follow."""
    ask_interval_ms: int = 2_000
    """A neighbour is asked for newer records this often, as gossip may lose them."""

    def __attrs_post_init__(self) -> None:
        require(self.gate_grace_records >= 0, "replication.gate_grace_records must not be negative")
        for name in (
            "network_samples_per_check",
            "required_matches",
            "gate_peers_per_sample",
            "gate_timeout_ms",
            "gate_retry_ms",
            "gate_retry_max_ms",
            "publish_batch",
            "outbox_max",
            "reorder_max",
            "ask_interval_ms",
        ):
            require(getattr(self, name) > 0, f"replication.{name} must be above 0")


@attrs.frozen(slots=True, kw_only=True)
class ReplicasConfig:
    """How many storage nodes keep each content that the world names; docs/storage.md has the reasons."""

    target_replicas_per_blob: int = 0
    """0: every storage node keeps all of it."""
    poll_interval_ms: int = 60_000
    """Between two rounds of a planner; source of this and the next five: the reference system."""
    max_repairs_per_round: int = 32
    max_rebalances_per_round: int = 32
    """Of the moves to idle nodes, and as many surplus copies are given up."""
    rebalance_source_load_min_per_mille: int = 850
    rebalance_target_load_max_per_mille: int = 450
    max_content_hash_samples_per_round: int = 128
    """Contents that a planner looks at in a round; the next round goes on after them."""

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(ReplicasConfig):
            require(getattr(self, field.name) >= 0, f"replicas.{field.name} must not be negative")
        require(self.target_replicas_per_blob <= 64, "replicas.target_replicas_per_blob must be at most 64")
        require(self.poll_interval_ms > 0, "replicas.poll_interval_ms must be above 0")
        require(
            0 < self.max_content_hash_samples_per_round <= limits.REPLICA_CONTENTS_MAX,
            f"replicas.max_content_hash_samples_per_round must be in 1..{limits.REPLICA_CONTENTS_MAX}",
        )
        require(
            self.rebalance_target_load_max_per_mille < self.rebalance_source_load_min_per_mille <= 1_000,
            "replicas.rebalance_target_load_max_per_mille must be below rebalance_source_load_min_per_mille,"
            " which is 1000 at most",
        )


@attrs.frozen(slots=True, kw_only=True)
class BitswapConfig:
    """The bridge to other IPFS implementations; docs/ipfs.md."""

    enabled: bool = False
    """Answer bitswap on the node's own addresses; off, the protocol is not spoken at all."""
    bytes_per_s: float = 32.0 * limits.MIB
    """Sent by bitswap to all peers together, so that a bridge never takes the node's line for itself."""
    look_every_s: float = 30.0
    """Files that are new here are looked for this often, so that their dag-pb nodes are known."""

    def __attrs_post_init__(self) -> None:
        for name in ("bytes_per_s", "look_every_s"):
            require(getattr(self, name) > 0, f"bitswap.{name} must be above 0")


@attrs.frozen(slots=True, kw_only=True)
class NodeConfig:
    """Everything a node is run with."""

    consensus: ConsensusConfig = ConsensusConfig()
    batch: BatchRules = BatchRules()
    mempool: MempoolConfig = MempoolConfig()
    net: NetConfig = NetConfig()
    storage: StorageConfig = StorageConfig()
    lease: LeaseConfig = LeaseConfig()
    replication: ReplicationConfig = ReplicationConfig()
    challenge: ChallengeConfig = ChallengeConfig()
    replicas: ReplicasConfig = ReplicasConfig()
    bitswap: BitswapConfig = BitswapConfig()


MAINNET: Final = NodeConfig()
MINIMAL: Final = NodeConfig(
    consensus=ConsensusConfig(
        block_interval_ms=20, empty_block_interval_ms=200, propose_timeout_ms=300, gone_timeout_ms=60,
        vote_timeout_ms=150, timeout_delta_ms=100, rebroadcast_ms=150,
    ),
    net=NetConfig(heartbeat_s=0.2, redial_min_s=0.05, redial_max_s=0.5, hello_interval_s=0.3, request_timeout_s=5.0),
    storage=StorageConfig(pull_retry_ms=50, scrub_bytes_per_s=0),
    replication=ReplicationConfig(gate_retry_ms=50, gate_retry_max_ms=400, ask_interval_ms=300),
)  # fmt: skip
"""Small and fast, for tests on loopback."""

"""Bounds of everything that can arrive from outside; each name ends in its unit and MAX.

A decoder refuses what is above its bound before it looks at the content.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

U64_MAX: Final = 2**64 - 1
I64_MAX: Final = 2**63 - 1

CBOR_DEPTH_MAX: Final = 32
"""Nesting of any record; the deepest of ours is a journal segment's event payload at 6."""
CBOR_ITEMS_MAX: Final = 64 * KIB
"""Data items (RFC 8949) in one message: decoding a million empty lists costs a second and 100 MB. The most of ours are
in a get_blocks answer, 64 blocks of 512 actions: about 33,500."""

ENVELOPE_BYTES_MAX: Final = 64 * KIB
"""One signed action. Large data go by content hash (D2), so an action holds names and numbers."""
PAYLOAD_BYTES_MAX: Final = 48 * KIB
"""The body inside an action envelope; leaves room for the envelope around it."""
BLOB_BYTES_MAX: Final = MIB
"""One stored blob (D2); above it content travels as a file manifest of chunks."""
CHUNK_BYTES: Final = 256 * KIB
"""Chunk of a file manifest and bound of a snapshot's transfer pack (D2, D6)."""
MANIFEST_LINKS_MAX: Final = 4_096
"""Links of one node of a file manifest (D2): 168 KiB; one node covers 1 GiB, two levels 4 TiB."""
SNAPSHOT_CHUNKS_MAX: Final = 16_384
"""Transfer packs named by one snapshot manifest: 4 GiB of state nodes, and a manifest of 800 KiB."""

BLOCK_ACTIONS_MAX: Final = 512
"""Actions in one block; source: the reference system"""
BLOCK_ACTION_BYTES_MAX: Final = 512 * KIB
"""Sum of the encoded actions of one block; source: the reference system"""
HEADER_BYTES_MAX: Final = 4 * KIB
"""A block header: 16 fixed fields, about 600 bytes."""
VALIDATORS_MAX: Final = 256
"""Members of one validator set; bounds a certificate to 256 x 100 bytes."""
VOTE_BYTES_MAX: Final = KIB
"""One signed vote, about 250 bytes."""
PROPOSAL_BYTES_MAX: Final = 23 * KIB
"""One signed proposal: header, up to 512 action hashes of 34 bytes, and 300 bytes around them."""
EVIDENCE_BYTES_MAX: Final = 47 * KIB
"""Two signed proposals and what is around them; fits into an action's payload."""
BOUNDARIES_MAX: Final = 16
"""Epoch boundaries in one get_boundaries answer: at most 16 certificates and sets of 64 KiB each."""
CHANGES_OPEN_MAX: Final = 16
"""Changes of the validator set that wait for approvals at one time."""
EQUIVOCATIONS_LISTED_MAX: Final = 64
"""Equivocations that the state lists, the newest first; the others are found by their place."""
LEASE_TTL_MS_MAX: Final = 600_000
"""Longest lease: a holder that is gone keeps the writer's place for no longer."""
CERTIFICATE_BYTES_MAX: Final = 64 * KIB
"""One commit certificate: 256 signatures of about 110 bytes."""

SEGMENT_EVENTS_MAX: Final = 256
"""Events in one journal segment; source: the reference system"""
STATE_KEY_BYTES_MAX: Final = 256
"""Key in the state tree (D6)."""
STATE_VALUE_BYTES_MAX: Final = KIB
"""Inline value in the state tree (D6); larger ones go by link."""

NAME_CHARS_MAX: Final = 64
"""World ids, validator ids, agents' names, resource and object names."""

RPC_FRAME_BYTES_MAX: Final = 80 * KIB
"""One frame on the kept request stream; larger answers travel on a stream of their own (D7)."""
RPC_INLINE_BYTES_MAX: Final = 64 * KIB
"""Largest answer body on the kept stream (D7)."""
RPC_BODY_BYTES_MAX: Final = 16 * MIB
"""Largest answer body on a stream of its own."""
BODY_PART_BYTES_MAX: Final = 2 * MIB
"""One part of a streamed body: the largest blob beside a part that was nearly full."""
RANGE_BLOCKS_MAX: Final = 64
"""Blocks in one get_blocks answer; with the byte bound below an answer stays under RPC_BODY_BYTES_MAX."""
RANGE_BYTES_MAX: Final = 8 * MIB
"""Bytes after which a range answer stops; at least one block is always sent."""
BLOBS_PER_REQUEST_MAX: Final = 1024
"""Hashes in one fetch_blobs request."""
GOSSIP_BYTES_MAX: Final = 100 * KIB
"""One gossip message: bundles of 100 KiB keep p99 below 50 ms on loopback."""
GOSSIP_ACTIONS_MAX: Final = 256
"""Actions in one gossiped bundle."""
PENDING_IDS_MAX: Final = 1_024
"""Action ids in one get_pending answer: 35 KiB, and as many bodies as one fetch_blobs asks for."""
CHALLENGE_TTL_MS_MAX: Final = 600_000
"""Longest time that one putting of a storage challenge is valid; bounds how long a replay must be remembered."""
REPLICA_CONTENTS_MAX: Final = 1024
"""Contents asked about in one replica request: 40 KiB."""
ADDRESS_CHARS_MAX: Final = 256
"""One multiaddr as text."""
CAPABILITY_BYTES_MAX: Final = KIB
"""One signed capability record, about 450 bytes."""
MEMBERSHIP_BYTES_MAX: Final = 64 * KIB
"""One signed membership directory: VALIDATORS_MAX members of at most 150 bytes."""
REPLICATION_BYTES_MAX: Final = 2 * KIB
"""One signed replication record: at most RECORD_PATH_BYTES_MAX of path, and 400 bytes around it."""
RECORD_PATH_BYTES_MAX: Final = KIB
"""The path in a replication record, in UTF-8."""
RECORDS_MAX: Final = 256
"""Replication records in one get_records answer: at most 512 KiB."""
BITSWAP_MESSAGE_BYTES_MAX: Final = MIB
"""One bitswap message that is taken: about 20,000 wants. Its specification allows four times as much, for blocks."""
BITSWAP_WANTS_MAX: Final = 1_024
"""Wants of one bitswap message, and of one peer that wait; source: go-bitswap's limit of queued entries."""
HELLO_VERSIONS_MAX: Final = 16
"""Protocol versions named in one hello, each of at most NAME_CHARS_MAX characters."""
HELLO_PEERS_MAX: Final = 64
"""Peers named in one hello."""

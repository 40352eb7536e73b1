"""Every record of the contract with its protocol folder and the largest encoding that a node accepts of it."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.wire import (
    action,
    blob,
    block,
    capability,
    challenge,
    consensus,
    directory,
    evidence,
    file_index,
    genesis,
    head,
    hello,
    lease,
    limits,
    membership,
    module,
    replica,
    replication,
    rpc,
    signed,
    snapshot,
    submit,
)
from agent_world.world import events, records

CATALOGUE: Final[dict[str, tuple[type, ...]]] = {
    "codec": (signed.Signed,),
    "rpc": (rpc.RequestFrame, rpc.ResponseFrame, rpc.ErrorResponse),
    "hello": (hello.Hello, hello.ValidatorClaim, hello.PeerAddress),
    "head": (head.WorldHead, head.CertifiedHead, head.GetWorldHeadRequest),
    "action": (
        action.ActionEnvelope,
        action.ActionBundle,
        action.RegisterAgent,
        action.MoveAgent,
        action.GrantResource,
        action.TransferResource,
        action.CreateObject,
        action.GetPendingRequest,
        action.GetPendingResponse,
    ),
    "submit": (
        submit.SubmitActionRequest,
        submit.SubmitActionResponse,
        submit.GetReceiptRequest,
        submit.GetReceiptResponse,
        submit.GetActorRequest,
        submit.GetActorResponse,
    ),
    "block": (
        block.WorldBlock,
        block.ActionList,
        block.Receipt,
        block.ReceiptList,
        block.Event,
        block.JournalSegment,
        block.JournalSegmentRef,
        block.JournalIndex,
        block.StateRoot,
        block.NamespaceRoot,
        block.BlockAnnounce,
        block.GetBlockRequest,
        block.GetBlocksRequest,
        block.BlockBundle,
        block.GetBlocksResponse,
        genesis.Genesis,
        genesis.WorldParams,
    ),
    "consensus": (
        consensus.Proposal,
        consensus.Vote,
        consensus.VoteSignature,
        consensus.CommitCertificate,
        consensus.ValidatorEntry,
        consensus.ValidatorSetRecord,
    ),
    "blob": (
        blob.FetchBlobRequest,
        blob.FetchBlobResponse,
        blob.FetchBlobsRequest,
        blob.FetchBlobsResponse,
        blob.BlobRef,
        blob.FileManifest,
    ),
    "file_index": (
        file_index.FileMetadata,
        file_index.FileIndexPage,
        file_index.FileIndexManifest,
        file_index.FileIndexManifestRef,
    ),
    "event": (
        block.GetJournalSegmentRequest,
        block.GetJournalSegmentResponse,
        block.GetReceiptSegmentRequest,
        block.GetReceiptSegmentResponse,
    ),
    "module": (
        module.GetModuleManifestRequest,
        module.GetModuleManifestResponse,
        module.GetModuleArtifactRequest,
        module.GetModuleArtifactResponse,
    ),
    "membership": (
        membership.MembershipChange,
        membership.MembershipApproval,
        records.KeyOwnerRecord,
        records.OpenChangesRecord,
        records.ChangeRecord,
        events.MembershipFiled,
        events.MembershipDecided,
        events.ValidatorsChanged,
        membership.GetBoundariesRequest,
        membership.GetBoundariesResponse,
        membership.EpochBoundary,
    ),
    "evidence": (
        evidence.EquivocationEvidence,
        records.EquivocationRecord,
        records.EquivocationsRecord,
        records.EquivocationPlace,
        events.EquivocationRecorded,
    ),
    "challenge": (
        challenge.ChallengeQuestion,
        challenge.StorageChallenge,
        challenge.ChallengeReceipt,
        challenge.ChallengeRevealRequest,
        challenge.ChallengeRevealResponse,
    ),
    "lease": (
        lease.AcquireLease,
        lease.RenewLease,
        lease.ReleaseLease,
        records.LeaseRecord,
        lease.LeaseState,
        events.LeaseChanged,
    ),
    "replica": (replica.ReplicaRequest, replica.ReplicaResponse),
    "replication": (
        replication.FileReplicationRecord,
        replication.OfferRecordRequest,
        replication.OfferRecordResponse,
        replication.GetRecordsRequest,
        replication.GetRecordsResponse,
        replication.FetchCommitRequest,
        replication.FetchCommitResponse,
    ),
    "dht": (capability.CapabilityRecord, directory.MembershipDirectorySnapshot),
    "state": (
        records.WorldRecord,
        records.ClockRecord,
        records.ActorRecord,
        records.PositionRecord,
        records.BalanceRecord,
        records.SupplyRecord,
        records.ObjectRecord,
        events.AgentRegistered,
        events.AgentMoved,
        events.ResourceGranted,
        events.ResourceTransferred,
        events.ObjectCreated,
        snapshot.SnapshotManifest,
        snapshot.StateChunkRef,
        snapshot.StatePack,
        snapshot.GetSnapshotRequest,
    ),
}
"""Protocol folder -> its records, in the order of its schema."""

RECORDS: Final[dict[str, type]] = {kind.__name__: kind for kinds in CATALOGUE.values() for kind in kinds}
"""Record name -> class; the names are unique over all folders."""

FOLDER_OF: Final[dict[str, str]] = {kind.__name__: folder for folder, kinds in CATALOGUE.items() for kind in kinds}

SIZE_MAX: Final[dict[str, int]] = {
    "Signed": limits.ENVELOPE_BYTES_MAX,
    "RequestFrame": limits.RPC_FRAME_BYTES_MAX,
    "ResponseFrame": limits.RPC_FRAME_BYTES_MAX,
    "Hello": limits.RPC_INLINE_BYTES_MAX,
    "WorldHead": limits.HEADER_BYTES_MAX,
    "CertifiedHead": limits.GOSSIP_BYTES_MAX,
    "ActionEnvelope": limits.ENVELOPE_BYTES_MAX,
    "ActionBundle": limits.GOSSIP_BYTES_MAX,
    "GetPendingRequest": limits.HEADER_BYTES_MAX,
    "GetPendingResponse": limits.RPC_INLINE_BYTES_MAX,
    "WorldBlock": limits.HEADER_BYTES_MAX,
    "BlockAnnounce": limits.GOSSIP_BYTES_MAX,
    "Proposal": limits.PROPOSAL_BYTES_MAX,
    "Vote": limits.VOTE_BYTES_MAX,
    "CommitCertificate": limits.CERTIFICATE_BYTES_MAX,
    "EquivocationEvidence": limits.EVIDENCE_BYTES_MAX,
    "GetBoundariesResponse": limits.RPC_BODY_BYTES_MAX,
    "JournalSegment": limits.BLOB_BYTES_MAX,
    "CapabilityRecord": limits.CAPABILITY_BYTES_MAX,
    "MembershipDirectorySnapshot": limits.MEMBERSHIP_BYTES_MAX,
    "GetBlocksResponse": limits.RPC_BODY_BYTES_MAX,
    "FileReplicationRecord": limits.REPLICATION_BYTES_MAX,
    "GetRecordsResponse": limits.RPC_BODY_BYTES_MAX,
    "FetchBlobResponse": limits.RPC_BODY_BYTES_MAX,
    "FetchBlobsResponse": limits.RPC_BODY_BYTES_MAX,
    "FileManifest": limits.BLOB_BYTES_MAX,
    "FileIndexPage": limits.BLOB_BYTES_MAX,
    "FileIndexManifest": limits.BLOB_BYTES_MAX,
    "StorageChallenge": limits.HEADER_BYTES_MAX,
    "ChallengeReceipt": limits.HEADER_BYTES_MAX,
    "ChallengeRevealResponse": limits.RPC_BODY_BYTES_MAX,
    "SnapshotManifest": limits.RPC_BODY_BYTES_MAX,
    "StatePack": limits.CHUNK_BYTES,
}
"""Where a record has a bound of its own."""


def size_max_of(record_name: str) -> int:
    """Largest encoding in bytes; a payload of an action, a stored blob or an answer is the bound of what has none."""
    default = {"action": limits.PAYLOAD_BYTES_MAX, "block": limits.BLOB_BYTES_MAX}
    return SIZE_MAX.get(record_name, default.get(FOLDER_OF[record_name], limits.RPC_INLINE_BYTES_MAX))


def fields_of(kind: type) -> tuple[attrs.Attribute[object], ...]:
    """The record's fields with their types resolved (annotations are text in the source)."""
    attrs.resolve_types(kind)
    fields: tuple[attrs.Attribute[object], ...] = attrs.fields(kind)
    return fields

"""What the control API shows of a committed chain and its state, of a running node or of a stopped home."""

from __future__ import annotations

from typing import Any, Final, Protocol

from agent_world.errors import DataError, DecodeError, ErrorCode, Refused
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain_rows import StoredBlock
from agent_world.wire import cbor, record
from agent_world.wire.block import Receipt, WorldBlock
from agent_world.wire.consensus import CommitCertificate
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import ActorId, Hash32, Label
from agent_world.wire.limits import BLOB_BYTES_MAX, CERTIFICATE_BYTES_MAX, ENVELOPE_BYTES_MAX
from agent_world.world import queries
from agent_world.world.epochs import open_changes
from agent_world.world.events import EVENTS
from agent_world.world.journal import assemble_journal
from agent_world.world.records import CHANGES, NAMESPACES
from agent_world.world.replay import action_hashes
from agent_world.world.state import WorldState
from agent_world.world.validator_views import validators_view

RECENT_BLOCKS: Final = 20
"""Blocks whose events are shown if no height is given."""


class Committed(Protocol):
    """A committed chain; satisfied by ``node.ledger.Ledger`` and ``node.stopped.StoppedHome``."""

    @property
    def height(self) -> int:
        """Committed height."""
        ...

    @property
    def header(self) -> WorldBlock | None:
        """The last committed block; None at height 0."""
        ...

    @property
    def timestamp_ms(self) -> int:
        """Time of the last block."""
        ...

    @property
    def head(self) -> WorldHead:
        """The head."""
        ...

    @property
    def state(self) -> WorldState:
        """The state after the last block."""
        ...

    def stored(self, height: int) -> StoredBlock | None:
        """A committed block."""
        ...

    def receipts(self, stored: StoredBlock) -> tuple[Receipt, ...]:
        """Its receipts."""
        ...

    def receipt(self, action_id: Hash32) -> tuple[int, Receipt] | None:
        """Height and receipt of a committed action."""
        ...


class ChainViews:
    """The part of ``control.ControlView`` that needs no running node. Damage is raised as DataError."""

    def __init__(self, committed: Committed, blobs: LocalCasStore) -> None:
        self._committed = committed
        self._blobs = blobs

    def head(self) -> dict[str, Any]:
        """The last committed block in short."""
        shown: dict[str, Any] = {**record.unstructure(self._committed.head)}
        header = self._committed.header
        stored = None if header is None else self._committed.stored(header.height)
        if stored is not None:
            shown["proposer_id"] = stored.header.proposer_id
            shown["certified_by"] = self._signers(stored)
        return shown

    def _signers(self, stored: StoredBlock) -> list[str]:
        """Ids of those who signed; the key where the state that knows its owner cannot be read."""
        certificate = record.from_bytes(CommitCertificate, stored.certificate, size_max=CERTIFICATE_BYTES_MAX)
        signers = []
        for signature in certificate.signatures:
            try:
                owner = queries.key_owner(self._committed.state, signature.key)
            except (DataError, DecodeError):
                owner = None
            signers.append(signature.key.hex() if owner is None else owner)
        return signers

    def block(self, height: int) -> dict[str, Any]:
        """One block with its actions and receipts; raises Refused if it is not committed here."""
        stored = self._committed.stored(height)
        if stored is None:
            raise Refused(ErrorCode.NOT_FOUND, f"height {height} is not committed here", rule="B5")
        receipts = self._committed.receipts(stored)
        actions = []
        for content, receipt in zip(action_hashes(stored.header, self._blobs.get), receipts, strict=True):
            signed = cbor.decode(self._blobs.get(content), size_max=ENVELOPE_BYTES_MAX)
            envelope = cbor.decode(signed["body"], size_max=ENVELOPE_BYTES_MAX)
            payload = cbor.decode(envelope.pop("payload_cbor"), size_max=ENVELOPE_BYTES_MAX)
            actions.append({**envelope, "payload": payload, **record.unstructure(receipt)})
        return {
            "block_hash": stored.block_hash,
            "block": record.unstructure(stored.header),
            "certified_by": self._signers(stored),
            "actions": actions,
        }

    def actor(self, actor_id: ActorId) -> dict[str, Any]:
        """An actor with balances; raises Refused if it is not registered."""
        found = queries.actor(self._committed.state, actor_id)
        if found is None:
            raise Refused(ErrorCode.NOT_FOUND, f"no actor {actor_id} in this world", rule="S4")
        return {
            "actor_id": actor_id,
            **record.unstructure(found.actor),
            "position": None if found.position is None else record.unstructure(found.position),
            "next_nonce": found.next_nonce,
            "pending": 0,
        }

    def state_entry(self, namespace: str, key: str, *, proof: bool) -> dict[str, Any]:
        """One key of the state, with its proof if asked; raises Refused for an unknown key without proof."""
        state = self._committed.state
        label, raw = _namespace(namespace), key.encode()
        value = state.value(label, raw)
        if value is None and not proof:
            raise Refused(ErrorCode.NOT_FOUND, f"no {key!r} in namespace {namespace}")
        shown = {"height": self._committed.height, "state_root": state.root, "key": key, "value": value}
        if proof:
            shown["proof"] = record.unstructure(state.prove(label, raw))
        return shown

    def state_entries(self, namespace: str, limit: int) -> dict[str, Any]:
        """The first entries of a namespace, in the trie's order."""
        state = self._committed.state
        entries: list[dict[str, Any]] = []
        for key, value in state.items(_namespace(namespace)):
            if len(entries) >= limit:
                break
            entries.append({"key": key.decode(errors="replace"), "value": value})
        return {"height": self._committed.height, "state_root": state.root, "entries": entries}

    def events(self, from_height: int | None, limit: int) -> dict[str, Any]:
        """Events from a height on, oldest first."""
        committed = self._committed
        height = max(1, committed.height - RECENT_BLOCKS + 1) if from_height is None else from_height
        rows: list[dict[str, Any]] = []
        while height <= committed.height and len(rows) < limit:
            stored = committed.stored(height)
            if stored is None:
                break
            for event in assemble_journal(stored.header.journal_ref, height, self._blobs.get):
                payload: object = record.from_bytes(EVENTS[event.kind], event.payload_cbor, size_max=BLOB_BYTES_MAX)
                shown = record.unstructure(event)
                del shown["payload_cbor"]
                rows.append({**shown, "payload": record.unstructure(payload)})
            height += 1
        return {"height": committed.height, "events": rows[:limit]}

    def validators(self) -> dict[str, Any]:
        """Who decides now and next, which changes are open, who equivocated."""
        shown: dict[str, Any] = record.unstructure(validators_view(self._committed.state))
        return shown


def change_rows(state: WorldState) -> list[dict[str, Any]]:
    """The open changes of the validator set, oldest first."""
    found = ((change_id, state.get(CHANGES, change_id.hex())) for change_id in open_changes(state))
    return [{"change_id": key, **record.unstructure(change)} for key, change in found if change is not None]


def _namespace(name: str) -> Label:
    if name not in NAMESPACES:
        raise Refused(ErrorCode.BAD_REQUEST, f"no namespace {name!r}; known: {', '.join(NAMESPACES)}")
    return Label(name)

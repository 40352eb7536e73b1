"""The control API of a stopped home: what can be read is shown, what is damaged is named, nothing is changed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import reduce
from typing import Any, NoReturn, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_world import __version__
from agent_world.config import NetConfig
from agent_world.consensus.guard import GuardState, merge_stricter, state_of
from agent_world.errors import BlobNotFound, DataError, DecodeError, ErrorCode, Refused, UsageError
from agent_world.node.chain_views import ChainViews, change_rows
from agent_world.node.epoch_report import epoch_report
from agent_world.node.large import Stored
from agent_world.node.lease_keeper import lease_of
from agent_world.node.settings import build_settings, read_settings
from agent_world.node.stopped import StoppedHome
from agent_world.store import guard_files, guard_log, schema
from agent_world.store.bans import BanBook
from agent_world.store.content import ContentTable
from agent_world.store.database import Database
from agent_world.store.guard import torn_end
from agent_world.store.guard_database import GuardDatabase
from agent_world.store.peers import PeerBook
from agent_world.wire import record
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import Hash32, PeerId, PublicKey, peer_id_of
from agent_world.world import queries
from agent_world.world.snapshot import state_blobs

T = TypeVar("T")


class StoppedViews(ChainViews):
    """Satisfies ``control.ControlView``; what would change something is refused."""

    def __init__(self, stopped: StoppedHome) -> None:
        super().__init__(stopped, stopped.blobs)
        self._stopped = stopped
        self._damage: list[str] = []

    def status(self) -> dict[str, Any]:
        """As of a running node, as far as it lies in the home; ``damage`` lists what could not be read."""
        self._damage = []
        stopped, files = self._stopped, self._stopped.home.files
        usage = stopped.blobs.usage()
        settings = self._read("node.toml", lambda: build_settings(read_settings(files.node_toml), str(files.node_toml)))
        node_key = self._read("node.key", stopped.home.node_key)
        content = self._read("content", lambda: ContentTable(stopped.home).counts())
        return {
            "version": __version__,
            "node_id": None if settings is None else settings.node_id,
            "role": None if settings is None else settings.role.value,
            "topology": None if settings is None else settings.topology.value,
            "world_id": stopped.genesis.world_id,
            "genesis_hash": stopped.home.genesis_hash,
            "peer_id": None if node_key is None else peer_id_of(node_key.public_key),
            "multiaddrs": [],
            "running": False,
            "consensus": self._consensus(),
            "guard": self._read("guard", self._guard),
            "peers": [],
            "peers_known": len(self._read("peers", self._known) or ()),
            "storage": {
                "blobs": usage.blobs,
                "bytes": usage.size_bytes,
                "content": {} if content is None else {state.value: count.items for state, count in content.items()},
            },
            "damage": list(self._damage),
            "counters": dict(stopped.blobs.counters()),
        }

    def _consensus(self) -> dict[str, Any]:
        stopped, header = self._stopped, self._stopped.header
        clock = self._read("state", lambda: stopped.state.clock)
        blocks, receipts = stopped.chain.row_counts()
        return {
            "mode": "bft",
            "committed_height": stopped.height,
            "base_height": stopped.chain.base_height,
            "last_status": "committed" if header else "pending",
            "last_block_hash": stopped.head.block_hash,
            "last_committed_at_ms": None if header is None else header.timestamp_ms,
            "last_execution_height": None if clock is None else clock.height,
            "last_execution_state_root": stopped.head.state_root,
            "slot": 0 if header is None else header.slot,
            "epoch": 0 if header is None else header.epoch,
            "blocks": blocks,
            "receipts": receipts,
            "catching_up": False,
        }

    def _guard(self) -> dict[str, Any] | None:
        """What the vote guard forbids; None without a validator key. The stricter file counts, as at a start."""
        home = self._stopped.home
        key = home.validator_key()
        if key is None:
            return None
        damage = len(self._damage)
        self._note_missing(key.public_key)
        log = self._read("guard.log", lambda: self._guard_log(key.public_key))
        found = (
            None if log is None else self._read("guard.log", lambda: state_of(log.records)),
            self._read("guard.db", self._guard_database),
        )
        copies = [copy for copy in found if copy is not None]
        if log is not None and len(copies) == len(found):
            self._note("guard.log", torn_end(log, *copies))
        state = reduce(merge_stricter, copies) if copies else GuardState()
        return {
            "files": len(copies),
            "height": state.height,
            "sign_floor": state.sign_floor,
            "watching": state.watching or len(self._damage) > damage,
        }

    def _note_missing(self, key: PublicKey) -> None:
        """A file of the guard that a start would miss; of a guard that is half made it misses none."""
        home = self._stopped.home
        missing = [file.name for file in (home.files.guard_log, home.files.guard_db) if not file.exists()]
        was_made = guard_files.made_for(home) == key
        if len(missing) == 2 and not was_made:
            was_made = bool(self._stopped.height) and queries.key_owner(self._stopped.state, key) is not None
        for name in missing if was_made else ():
            self._note(name, "it is missing")

    def _guard_log(self, key: PublicKey) -> guard_log.LogContent | None:
        home = self._stopped.home
        if not home.files.guard_log.exists():
            return None
        content = guard_log.read(home.files.guard_log, home.genesis_hash, key)
        self._note("guard.log", content.damage)
        return content

    def _guard_database(self) -> GuardState | None:
        home = self._stopped.home
        if not home.files.guard_db.exists():
            return None
        database = Database.open(home.files.guard_db, schema.GUARD, home.genesis_hash, read_only=True, at_rest=True)
        try:
            content = GuardDatabase(database).read()
        finally:
            database.close()
        self._note("guard.db", content.damage)
        return content.state

    def _known(self) -> Sequence[Any]:
        net = NetConfig()
        book = PeerBook(self._stopped.home, peers_max=net.peers_known_max, ttl_ms=int(net.peer_ttl_s * 1000))
        return book.all(_now_ms())

    def _read(self, what: str, read: Callable[[], T]) -> T | None:
        """The result, or None for what is damaged, which is noted."""
        try:
            return read()
        except (DataError, DecodeError, UsageError) as error:
            self._note(what, str(error))
            return None

    def _note(self, what: str, damage: str) -> None:
        if damage:
            self._damage.append(f"{what}: {damage}")

    def summary(self) -> dict[str, Any]:
        """The status, the validators, and what reading the whole last state and block found."""
        shown = self.status()
        found = {
            "validators": self._read("validators", self.validators),
            "state_blobs": self._read("state", self._walk_state),
            "last_block": self._read("last block", self._last_block),
            "boundaries": len(self._read("boundaries", lambda: self._stopped.chain.boundaries(1, 10_000)) or ()),
        }
        self._read("world.db", self._stopped.home.database.check)
        return {**shown, **found, "damage": list(dict.fromkeys(self._damage))}

    def _walk_state(self) -> int:
        return sum(1 for _ in state_blobs(self._stopped.head.state_root, self._stopped.blobs.get))

    def _last_block(self) -> dict[str, Any] | None:
        if self._stopped.header is None:
            return None
        shown = self.block(self._stopped.height)
        self.events(self._stopped.height, 1)
        return {"actions": len(shown["actions"]), "certified_by": shown["certified_by"]}

    def peers(self) -> list[dict[str, Any]]:
        """Known and banned peers, ascending by id; nobody is connected."""
        bans = {ban.peer_id: ban for ban in BanBook(self._stopped.home).all(_now_ms())}
        known = {peer.peer_id: peer for peer in self._known()}
        rows = []
        for peer in sorted({*known, *bans}):
            addresses = known[peer].addresses if peer in known else ()
            ban = bans.get(peer)
            rows.append(
                {
                    "peer_id": peer,
                    "connected": False,
                    "address": addresses[0] if addresses else None,
                    "score": None if ban is None else ban.score,
                    "banned_until_ms": None if ban is None else ban.until_ms,
                    "reason": None if ban is None else ban.reason,
                    "counters": {"received": 0, "sent": 0, "dropped": {}},
                }
            )
        return rows

    async def receipt(self, action_id: Hash32, wait_ms: int) -> dict[str, Any]:
        """The receipt; nothing is waited for. Raises Refused (ERR_NOT_FOUND)."""
        found = self._stopped.receipt(action_id)
        if found is None:
            raise Refused(ErrorCode.NOT_FOUND, f"action {action_id.hex()} is not committed in this home", rule="S2")
        return {"height": found[0], **record.unstructure(found[1])}

    async def blob(self, content: ContentHash) -> bytes:
        """A blob of this home; raises Refused if it is not here, BlobHashMismatch if it is damaged."""
        try:
            return self._stopped.blobs.get(content)
        except BlobNotFound as error:
            raise Refused(ErrorCode.NOT_FOUND, str(error), rule="L1") from None

    def submit(self, data: bytes) -> Hash32:
        """Refused."""
        _refuse()

    def ban_peer(self, peer: PeerId, ban_ms: int, reason: str) -> dict[str, Any]:
        """Refused."""
        _refuse()

    def unban_peer(self, peer: PeerId) -> dict[str, Any]:
        """Refused."""
        _refuse()

    def put_blob(self, data: bytes) -> Cid:
        """Refused."""
        _refuse()

    async def put_content(self, parts: AsyncIterator[bytes]) -> Stored:
        """Refused."""
        _refuse()

    async def content_size(self, cid: Cid, providers: Sequence[PeerId]) -> int:
        """Refused: a file's chunks may be with other nodes."""
        _refuse()

    def read_content(self, cid: Cid, start: int, end: int, providers: Sequence[PeerId]) -> AsyncIterator[bytes]:
        """Refused."""
        _refuse()


class StoppedValidator:
    """Satisfies ``validator_control.ValidatorControlView``: shows, and signs nothing."""

    def __init__(self, stopped: StoppedHome) -> None:
        self._stopped = stopped

    def changes(self) -> list[dict[str, Any]]:
        """The open changes of the set, oldest first."""
        return change_rows(self._stopped.state)

    async def epoch(self, epoch: int | None) -> dict[str, Any]:
        """What happened in an epoch, by default in the last one."""
        return await epoch_report(self._stopped, self._stopped.blobs.get, epoch)

    def lease(self) -> dict[str, Any]:
        """Who held the lease at the last block."""
        return {**lease_of(self._stopped), "held_here": False, "keeps_it": False}

    async def file(self, payload: object) -> dict[str, Any]:
        """Refused."""
        _refuse()

    async def acquire_lease(self, ttl_ms: int | None, *, keep: bool) -> dict[str, Any]:
        """Refused."""
        _refuse()

    async def release_lease(self) -> dict[str, Any]:
        """Refused."""
        _refuse()


def refused_routes() -> list[Route]:
    """All other paths of a running node's control API; they come last."""

    async def refuse(_request: Request) -> Response:
        _refuse()

    return [Route("/{path:path}", refuse, methods=["GET", "POST", "PUT", "DELETE"])]


def _refuse() -> NoReturn:
    raise Refused(ErrorCode.UNSUPPORTED, "this is a stopped home under inspection; start its node for that: node run")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

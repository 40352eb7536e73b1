"""The node's side of a peer's standing: bans over restarts, who is protected, who is let go, what the operator sees."""

from __future__ import annotations

from typing import Any, Final

import structlog
import trio

from agent_world.config import NetConfig
from agent_world.errors import ErrorCode, Refused, StoreNotWritable
from agent_world.net.address import parse_address, parse_peer
from agent_world.net.doors import network_of
from agent_world.net.interface import DistributedNetwork, PeerInfo
from agent_world.net.reputation import Ban
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.peering import Peering
from agent_world.node.trimming import Candidate, surplus
from agent_world.store.bans import BanBook, KnownBan
from agent_world.wire.ids import PeerId

_log = structlog.get_logger("agent_world.peers")

TEND_EVERY_S: Final = 1.0
"""How often it is looked whether there are too many peers."""
HONEST_AFTER_S: Final = 60.0
"""A greeted peer that has stayed so long speaks for its address; a fresh key of an offender must not."""
HONEST_SCORE: Final = -10.0
"""A peer that has done worse of late speaks for nobody."""
BAN_MS_MAX: Final = 365 * 24 * 3_600 * 1_000
"""Longest ban an operator may give."""


class PeerControl:
    """Bans, protection and trimming for one node; says so to the network's gate."""

    def __init__(
        self, network: DistributedNetwork, peering: Peering, bans: BanBook, config: NetConfig, clock: Clock
    ) -> None:
        self._network = network
        self._peering = peering
        self._bans = bans
        self._clock = clock
        self._above = config.connections_max * config.trim_above_percent // 100
        self._bootstrap = [network_of(parse_address(parse_peer(text)[1]).host) for text in config.bootstrap]
        self._down_to = config.connections_max * config.trim_to_percent // 100
        self.counters = Counters()
        gate = network.gate
        gate.protect(self.is_protected)
        gate.banned = self._banned

    def load(self) -> None:
        """At the start: bans of earlier runs hold."""
        now_ms, gate = self._clock.wall_ms(), self._network.gate
        self._bans.prune(now_ms)
        for ban in self._bans.all(now_ms):
            gate.ban(ban.peer_id, gate.now_ms() + ban.until_ms - now_ms, ban.reason)
        self._tell_addresses()

    def is_protected(self, peer: PeerId) -> bool:
        """Whether only proven faults lead to a ban: peers named by the operator, and proven validators."""
        return self._peering.links.is_chosen(peer) or self._peering.is_validator(peer)

    def _banned(self, ban: Ban) -> None:
        """The gate has banned a peer by itself."""
        score = round(self._network.gate.score(ban.peer))
        self._note(ban.peer, ban.until_ms - self._network.gate.now_ms(), ban.reason, score)

    def _note(self, peer: PeerId, ban_ms: int, reason: str, score: int) -> None:
        until_ms = self._clock.wall_ms() + ban_ms
        try:
            self._bans.add(KnownBan(peer_id=peer, until_ms=until_ms, reason=reason, score=score))
        except StoreNotWritable:
            self.counters.add("peers.ban_not_written")  # it holds until the next start
        self._peering.links.drop(peer)
        self.counters.add("peers.banned")
        _log.warning("peer is banned", peer=peer, reason=reason, until_ms=until_ms, score=score)

    def ban(self, peer: PeerId, ban_ms: int, reason: str) -> dict[str, Any]:
        """By word of the operator; raises Refused for the node itself or a time that is none."""
        if peer == self._network.peer_id:
            raise Refused(ErrorCode.BAD_REQUEST, "a node cannot ban itself")
        if not 0 < ban_ms <= BAN_MS_MAX:
            raise Refused(ErrorCode.BAD_REQUEST, f"a ban lasts 1 to {BAN_MS_MAX} ms")
        gate = self._network.gate
        self._note(peer, ban_ms, reason, round(gate.score(peer)))
        gate.ban(peer, gate.now_ms() + ban_ms, reason)
        return {"peer_id": peer, "banned_until_ms": self._clock.wall_ms() + ban_ms, "reason": reason}

    def unban(self, peer: PeerId) -> dict[str, Any]:
        """By word of the operator; raises Refused if there is no ban."""
        was_banned = self._network.gate.unban(peer)
        if not self._bans.remove(peer) and not was_banned:
            raise Refused(ErrorCode.NOT_FOUND, f"{peer} is not banned here")
        return {"peer_id": peer, "unbanned": True}

    async def run(self) -> None:
        """Until cancelled: let the least useful peers go while there are too many."""
        while True:
            await trio.sleep(TEND_EVERY_S)
            self._tell_addresses()
            infos = self._network.peers()
            for peer in surplus(map(self._candidate, infos), above=self._above, down_to=self._down_to):
                self.counters.add("peers.trimmed")
                await self._network.disconnect(peer)

    def _tell_addresses(self) -> None:
        """What the gate has to know to refuse an address that sends offender after offender, and nobody else."""
        trusted, honest = set(self._bootstrap), set()
        for info in self._network.peers():
            if not info.address:
                continue  # its socket is gone
            address = network_of(parse_address(info.address).host)
            if self.is_protected(info.peer):
                trusted.add(address)
            elif self._is_honest(info):
                honest.add(address)
        self._network.gate.tell_addresses(trusted, honest)

    def _is_honest(self, info: PeerInfo) -> bool:
        is_settled = info.peer in self._peering.hellos and info.connected_s >= HONEST_AFTER_S
        return is_settled and self._network.gate.score(info.peer) > HONEST_SCORE

    def _candidate(self, info: PeerInfo) -> Candidate:
        return Candidate(
            peer=info.peer,
            is_kept=self.is_protected(info.peer) or self._peering.links.is_own(info.peer),
            is_greeted=info.peer in self._peering.hellos,
            score=self._network.gate.score(info.peer),
            served=info.requests,
            connected_s=info.connected_s,
        )

    def rows(self) -> list[dict[str, Any]]:
        """Connected, banned and refused peers, ascending by id."""
        connected = {info.peer: info for info in self._network.peers()}
        bans = {ban.peer: ban for ban in self._network.gate.bans()}
        known = sorted({*connected, *bans, *self._peering.refusals})
        return [self._row(peer, connected.get(peer), bans.get(peer)) for peer in known]

    def _row(self, peer: PeerId, info: PeerInfo | None, ban: Ban | None) -> dict[str, Any]:
        gate, hello = self._network.gate, self._peering.hellos.get(peer)
        until_ms = None if ban is None else self._clock.wall_ms() + ban.until_ms - gate.now_ms()
        reason = self._peering.refusals.get(peer) if ban is None else ban.reason
        return {
            "peer_id": peer,
            "connected": info is not None,
            "address": None if info is None else info.address,
            "outbound": None if info is None else info.outbound,
            "connected_s": None if info is None else round(info.connected_s, 1),
            "role": None if hello is None else hello.role.value,
            "validator": None if hello is None else self._peering.is_validator(peer),
            "versions": None if hello is None else list(hello.versions),
            "protected": self.is_protected(peer),
            "score": round(gate.score(peer), 1),
            "address_limit": gate.address_limit(peer),
            "banned_until_ms": until_ms,
            "reason": reason,
            "latency_ms": None if info is None or info.latency_ms is None else round(info.latency_ms, 2),
            "counters": gate.traffic.peer_shown(peer),
        }

"""Inbound connections: counted by address while nobody is known, refused by name once somebody is."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

import trio
from libp2p.network.exceptions import SwarmException

from agent_world.config import NetConfig
from agent_world.net.counters import Counters
from agent_world.net.doors import Doors, Visit
from agent_world.net.gate import Gate
from agent_world.wire.ids import PeerId

_visit: Final[ContextVar[Visit | None]] = ContextVar("inbound connection of this task", default=None)
"""The library makes the handshake in the task that accepted the connection."""


def keep_doors(host: Any, config: NetConfig, doors: Doors, gate: Gate, counters: Counters) -> None:
    """Apply the limits of ``doors`` to what connects, and to both directions bans and the limit for each peer.

    The library only has a limit for all connections together, which half-open ones of one address may use up, and
    keeps the one for each peer only among connections older than 20 s.
    """
    network = host.get_network()
    being_added: dict[Any, set[Any]] = {}
    accept = network._handle_inbound_connection
    add = network.add_conn

    async def accept_within_limits(connection: Any, maddr: Any) -> None:
        remote = connection.get_remote_address()
        visit = doors.enter(remote[0] if remote else "", trio.current_time())
        if isinstance(visit, str):
            counters.add(visit)
            await connection.close()
            return
        token = _visit.set(visit)
        try:
            await accept(connection, maddr)
        finally:
            _visit.reset(token)
            doors.leave(visit, trio.current_time())

    async def add_unless_banned(muxed: Any, *args: Any, **options: Any) -> Any:
        visit = _visit.get()
        if visit is not None:
            visit.upgraded()
        if gate.is_banned(PeerId(muxed.peer_id.to_base58())):
            counters.add("connection_banned")
            await muxed.close()
            raise SwarmException("the peer is banned")
        added = being_added.setdefault(muxed.peer_id, set())
        there = {known.muxed_conn for known in network.connections.get(muxed.peer_id, ()) if not known.is_closed}
        try:
            if len(added | there) >= config.connections_per_peer_max:
                counters.add("connection_limit_per_peer")
                await muxed.close()
                raise SwarmException("the peer has enough connections")
            added.add(muxed)
            return await add(muxed, *args, **options)
        finally:
            added.discard(muxed)
            if not added:
                being_added.pop(muxed.peer_id, None)

    network._handle_inbound_connection = accept_within_limits
    network.add_conn = add_unless_banned

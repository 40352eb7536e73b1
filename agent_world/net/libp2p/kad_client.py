"""Asking one DHT peer: the messages of Kademlia, a stream and a deadline each, and an answer or none."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
import libp2p.kad_dht.utils as kad_utils
import trio
from google.protobuf.message import DecodeError as ProtobufError
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID
from libp2p.peer.peerstore import env_to_send_in_RPC
from libp2p.records.record import make_signed_put_record
from multiaddr import Multiaddr

from agent_world.net.counters import Counters
from agent_world.net.libp2p.host import Host, library_id, our_id
from agent_world.net.libp2p.kad_lookup import NEAREST
from agent_world.net.libp2p.library_faults import KAD_PROTOCOL
from agent_world.net.libp2p.streams import FrameReader, end_stream, framed, write_bytes
from agent_world.net.libp2p.visits import Visits
from agent_world.wire.limits import KIB

log: Final = logging.getLogger(__name__)

ASK_MAX_S: Final = 5.0
"""One question to one peer, with the dial that it may need."""
ECHO_MAX_S: Final = 1.0
"""Time for the echo of a provider record; some libraries send none."""
ANSWER_BYTES_MAX: Final = 256 * KIB
"""One answer: a record of at most 128 KiB, and 40 peers with their signed addresses."""
ADDRESSES_MAX: Final = 8
"""Addresses taken of one peer in one answer."""
ADDRESSES_CACHED_MAX: Final = 4_096
"""Addresses that need not be parsed again: every answer names the same ones."""
ADDRESS_TTL_S: Final = 3_600
"""How long an address that a DHT peer told is remembered."""


@attrs.frozen(slots=True)
class Answer:
    """What one peer said."""

    closer: tuple[ID, ...]
    """Peers that it knows to be near the key."""
    value: bytes | None = None
    """Its record; not checked."""
    providers: tuple[ID, ...] = ()


class KadClient:
    """Questions from one host; ``on_answer`` and ``on_silence`` are told how each peer fared."""

    def __init__(
        self,
        host: Host,
        visits: Visits,
        counters: Counters,
        on_answer: Callable[[ID], Any],
        on_silence: Callable[[ID], None],
    ) -> None:
        self._host = host
        self._visits = visits
        self._me = library_id(host.peer_id)
        self._counters = counters
        self._on_answer = on_answer
        self._on_silence = on_silence

    async def get_value(self, peer: ID, key: bytes) -> Answer | None:
        """GET_VALUE; None if the peer did not answer."""
        return self._opened(await self._ask(peer, self._message(Message.GET_VALUE, key)))

    async def get_providers(self, peer: ID, key: bytes) -> Answer | None:
        """GET_PROVIDERS; None if the peer did not answer."""
        return self._opened(await self._ask(peer, self._message(Message.GET_PROVIDERS, key)))

    async def find_node(self, peer: ID, target: bytes) -> Answer | None:
        """FIND_NODE; None if the peer did not answer."""
        return self._opened(await self._ask(peer, self._message(Message.FIND_NODE, target)))

    async def put_value(self, peer: ID, key: bytes, value: bytes) -> bool:
        """PUT_VALUE; whether the peer took the record. One that has a better one ends the stream."""
        message = self._message(Message.PUT_VALUE, key)
        message.record.CopyFrom(make_signed_put_record(key, value, self._host.inner.get_private_key()))
        message.record.ClearField("timeReceived")
        response = await self._ask(peer, message)
        return response is not None and response.type == Message.PUT_VALUE and response.key == key

    async def add_provider(self, peer: ID, key: bytes) -> bool:
        """ADD_PROVIDER for this host; whether it was sent: what became of it, only a question tells."""
        message = self._message(Message.ADD_PROVIDER, key)
        provider = message.providerPeers.add()
        provider.id = self._me.to_bytes()
        provider.addrs.extend(address.to_bytes() for address in self._host.inner.get_addrs())
        provider.signedRecord = message.senderRecord
        return await self._ask(peer, message, answers=False) is not None

    def _message(self, kind: Any, key: bytes) -> Any:
        message = Message()
        message.type = kind
        message.key = key
        message.senderRecord, _ = env_to_send_in_RPC(self._host.inner)
        return message

    async def _ask(self, peer: ID, message: Any, *, answers: bool = True) -> Any | None:
        response = None
        with self._visits.asking(our_id(peer)), trio.move_on_after(ASK_MAX_S):
            try:
                response = await self._exchange(peer, message, answers=answers)
            # A dial, a negotiation and an answer of a stranger may raise anything; only this question may die of it.
            except Exception as error:  # noqa: BLE001
                log.debug("DHT peer %s: %r", peer, error)
        if response is None:
            self._counters.add("dht_unanswered")
            self._on_silence(peer)
        else:
            self._counters.add("dht_answered")
            await self._on_answer(peer)
        return response

    async def _exchange(self, peer: ID, message: Any, *, answers: bool) -> Any | None:
        stream = await self._host.inner.new_stream(peer, [KAD_PROTOCOL])
        politely = False
        try:
            await write_bytes(stream, framed(message.SerializeToString()))
            data: bytes | None = None
            with trio.move_on_after(ASK_MAX_S if answers else ECHO_MAX_S):
                data = await FrameReader(stream).next(ANSWER_BYTES_MAX)
            politely = True
        finally:
            await end_stream(stream, politely=politely)
        if data is None:
            return None if answers else message
        response = Message()
        try:
            response.ParseFromString(data)
        except ProtobufError:
            return None
        if response.type != message.type or not kad_utils.maybe_consume_signed_record(response, self._host.inner, peer):
            return None
        return response

    def _opened(self, response: Any | None) -> Answer | None:
        if response is None:
            return None
        value = response.record.value if response.HasField("record") and response.record.value else None
        providers = tuple(self._peers(response.providerPeers, also_me=True))
        return Answer(tuple(self._peers(response.closerPeers)), value, providers)

    def _peers(self, entries: Any, *, also_me: bool = False) -> Iterator[ID]:
        """Ids that an answer names; their addresses are noted, so that they can be dialled."""
        store = self._host.inner.get_peerstore()
        for entry in list(entries)[: 2 * NEAREST]:
            peer = ID(entry.id)
            if peer == self._me:
                if also_me:
                    yield peer
                continue
            if not kad_utils.maybe_consume_signed_record(entry, self._host.inner):
                continue
            told = entry.addrs[:ADDRESSES_MAX]
            addresses = [address for octets in told if (address := _address(octets)) is not None]
            if len(addresses) < len(told):
                self._counters.add("dht_address_wrong", len(told) - len(addresses))
            if addresses:
                store.add_addrs(peer, addresses, ADDRESS_TTL_S)
            yield peer


@functools.lru_cache(ADDRESSES_CACHED_MAX)
def _address(octets: bytes) -> Multiaddr | None:
    try:
        address = Multiaddr(octets)
        str(address)
    # The library's codecs raise what they like for bytes that are no address; the caller counts it and passes it over.
    except Exception:  # noqa: BLE001
        return None
    return address if octets else None


def distance_to(key: bytes) -> Callable[[ID], int]:
    """Nearness of peers to a key: XOR of the SHA-256 of both, as every libp2p DHT has it."""
    target = int.from_bytes(hashlib.sha256(key).digest(), "big")
    return lambda peer: target ^ int.from_bytes(hashlib.sha256(peer.to_bytes()).digest(), "big")

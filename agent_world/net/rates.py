"""Token buckets: how much a peer or an address may send, and how much this node sends itself. Pure: time is given.

A rate is what one busy peer may need, so ten of them could be more than a node can do. That is why a peer is sure of a
small share of its rate only, and what all of them send above that is limited as a whole, to the rate of one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from enum import StrEnum
from typing import Final, Generic, TypeVar

import attrs

from agent_world.config import NetConfig
from agent_world.wire import rpc

K = TypeVar("K", bound=Hashable)

KEYS_MAX: Final = 4_096
"""Buckets of one kind; the one used longest ago is forgotten. Many times the connections a node may have."""
OWN_SHARE: Final = 0.8
"""Share of a limit that this node uses towards others: clocks differ, and what was held up arrives together."""
SURE_SHARE: Final = 0.125
"""Share of a limit that a peer may use whatever the others send; some times what a healthy swarm needs."""


class RateClass(StrEnum):
    """What is counted together; every class has a bucket of its own for each peer."""

    REQUEST = "request"
    """Requests that are answered from memory or with a row or two."""
    CONTENT = "content"
    """Requests for blobs, blocks and segments, which cost reads and large answers."""
    SUBMIT = "submit"
    """Requests that cost most: a signature check and room in the mempool, addresses to judge, a digest of the pool."""
    MESSAGE = "message"
    """One-way messages, all channels together."""
    GOSSIP = "gossip"
    """Gossip messages that a peer forwards, all topics together."""
    BYTES = "bytes"
    """Bytes of all of these together."""


_CONTENT: Final = frozenset(
    {
        rpc.GET_BLOCK,
        rpc.GET_BLOCKS,
        rpc.FETCH_BLOB,
        rpc.FETCH_BLOBS,
        rpc.STREAM_BLOBS,
        rpc.GET_SNAPSHOT,
        rpc.GET_JOURNAL_SEGMENT,
        rpc.GET_RECEIPT_SEGMENT,
        rpc.GET_MODULE_MANIFEST,
        rpc.GET_MODULE_ARTIFACT,
        rpc.GET_RECORDS,
        rpc.CHALLENGE,
        rpc.CHALLENGE_REVEAL,
        rpc.REPLICA,
    }
)
_COSTLY: Final = frozenset({rpc.SUBMIT_ACTION, rpc.HELLO, rpc.GET_PENDING, rpc.OFFER_RECORD})


def class_of(method: str) -> RateClass:
    """The class of a request; an unknown method is refused anyway and costs least."""
    if method in _CONTENT:
        return RateClass.CONTENT
    return RateClass.SUBMIT if method in _COSTLY else RateClass.REQUEST


@attrs.frozen(slots=True)
class Rate:
    """``per_s`` in the long run, and ``burst`` at once after a pause."""

    per_s: float
    burst: float

    def share(self, factor: float) -> Rate:
        """A smaller rate."""
        return Rate(self.per_s * factor, self.burst * factor)


@attrs.define(slots=True)
class TokenBucket:
    """Full at the start; refills with time. Times in seconds of one clock that never goes back."""

    rate: Rate
    filled_s: float
    tokens: float = attrs.Factory(lambda self: self.rate.burst, takes_self=True)

    def take(self, amount: float, now_s: float) -> bool:
        """Take ``amount`` if it is there. More than a burst counts as a burst, or it could never be had."""
        self._fill(now_s)
        amount = min(amount, self.rate.burst)
        if self.tokens < amount:
            return False
        self.tokens -= amount
        return True

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until ``take`` will succeed; 0 if it would now."""
        self._fill(now_s)
        return max(0.0, (min(amount, self.rate.burst) - self.tokens) / self.rate.per_s)

    def _fill(self, now_s: float) -> None:
        if now_s > self.filled_s:
            self.tokens = min(self.rate.burst, self.tokens + (now_s - self.filled_s) * self.rate.per_s)
            self.filled_s = now_s


class Buckets(Generic[K]):
    """A bucket of one rate for every key, at most KEYS_MAX."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: OrderedDict[K, TokenBucket] = OrderedDict()

    def of(self, key: K, now_s: float) -> TokenBucket:
        """The bucket of ``key``; a new one is full."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, now_s)
            while len(self._buckets) > KEYS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket

    def __len__(self) -> int:
        return len(self._buckets)


def rates_of(config: NetConfig) -> Mapping[RateClass, Rate]:
    """The limits of one peer."""
    return {
        RateClass.REQUEST: Rate(config.requests_per_s, config.requests_burst),
        RateClass.CONTENT: Rate(config.content_requests_per_s, config.content_requests_burst),
        RateClass.SUBMIT: Rate(config.submits_per_s, config.submits_burst),
        RateClass.MESSAGE: Rate(config.messages_per_s, config.messages_burst),
        RateClass.GOSSIP: Rate(config.gossip_per_s, config.gossip_burst),
        RateClass.BYTES: Rate(config.bytes_per_s, config.bytes_burst),
    }

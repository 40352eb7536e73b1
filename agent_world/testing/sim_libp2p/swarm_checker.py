"""What must hold of a swarm of hosts: told what happens, and shown at the end what every host has and finds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import attrs

from agent_world.errors import ErrorCode
from agent_world.testing.checkers import Violation

SLACK_S: Final = 0.1
"""A request may end so much after its deadline."""
LINKS_SPARE: Final = 1
"""Links that a host may have beyond those: one may be on its way out."""
REFUSALS: Final = frozenset(
    {ErrorCode.TIMEOUT, ErrorCode.NOT_AVAILABLE, ErrorCode.BUSY, ErrorCode.RATE_LIMITED},
)
"""How a request may end that is served by everybody and breaks no rule."""


@attrs.frozen(slots=True)
class _Asked:
    host: str
    deadline_s: float


class SwarmChecker:
    """Collects violations; ``answers_s`` are the times of answered requests.

    once: gossip gives a message at most once to a process; complete: at the end every host has every message that
    any host has, or that was published by a host which has not crashed since; outcome: a request ends by its deadline,
    with its own answer or a refusal that says why; head: the highest acknowledged head is found everywhere;
    provider: everybody who provides is found; linked: every link that was dialled stands; bounded: hardly any others
    do, and none twice.
    """

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.answers_s: list[float] = []
        self._asked: dict[int, _Asked] = {}
        self._given: dict[str, set[bytes]] = {}
        self._published: dict[str, set[bytes]] = {}
        self._heads: set[int] = set()
        self._head_known = 0

    def report(self, invariant: str, node: str, detail: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(invariant, node, detail))

    # While it runs.

    def crashed(self, host: str) -> None:
        """Its process is gone, and with it its requests, and what only it had."""
        self._asked = {number: asked for number, asked in self._asked.items() if asked.host != host}
        self._given.pop(host, None)
        self._published.pop(host, None)

    def published(self, host: str, message: bytes) -> None:
        """A host has made this message."""
        self._published.setdefault(host, set()).add(message)

    def given(self, host: str, message: bytes) -> None:
        """Gossip has given the message to a host."""
        known = self._given.setdefault(host, set())
        if message in known:
            self.report("once", host, f"{message!r} was given twice")
        known.add(message)

    def asked(self, number: int, host: str, *, deadline_s: float) -> None:
        """A host has begun request ``number``."""
        self._asked[number] = _Asked(host, deadline_s)

    def answered(self, number: int, now_s: float, *, right: bool) -> None:
        """The request has its answer."""
        asked = self._end(number, now_s)
        if not right:
            self.report("outcome", asked.host, f"request {number} got the answer of another one")

    def refused(self, number: int, now_s: float, code: ErrorCode) -> None:
        """The request has failed with this code."""
        asked = self._end(number, now_s)
        if code not in REFUSALS:
            self.report("outcome", asked.host, f"request {number} ended with {code}")

    def _end(self, number: int, now_s: float) -> _Asked:
        asked = self._asked.pop(number)
        if now_s > asked.deadline_s + SLACK_S:
            self.report("outcome", asked.host, f"request {number} ended {now_s - asked.deadline_s:.3f} s too late")
        return asked

    def head_put(self, height: int, *, acknowledged: bool) -> None:
        """Somebody has put this head, and others have taken it if ``acknowledged``."""
        self._heads.add(height)
        if acknowledged:
            self._head_known = max(self._head_known, height)

    # At the end.

    def no_request_hangs(self, now_s: float) -> None:
        """Nothing is open beyond its deadline."""
        for number, asked in self._asked.items():
            if now_s > asked.deadline_s + SLACK_S:
                self.report("outcome", asked.host, f"request {number} has not ended")

    def messages_held(self, held: Mapping[str, Collection[bytes]]) -> None:
        """All messages of every live host."""
        wanted = {message for messages in held.values() for message in messages}
        wanted.update(message for messages in self._published.values() for message in messages)
        for host, messages in held.items():
            missing = sorted(wanted - set(messages))
            if missing:
                self.report("complete", host, f"lacks {len(missing)} of {len(wanted)} messages: {missing[:3]}")

    def head_found(self, host: str, height: int | None) -> None:
        """What a host's look-up of the head gave."""
        if (height or 0) < self._head_known or (height is not None and height not in self._heads):
            self.report("head", host, f"finds {height}; {self._head_known} is known")

    def providers_found(self, host: str, provider: str, found: Collection[str]) -> None:
        """Whom a host finds for content that ``provider`` provides."""
        if provider not in found:
            self.report("provider", host, f"finds {sorted(found)} and not {provider}")

    def links(self, host: str, *, wanted: Collection[str], linked: Collection[str], needed: int) -> None:
        """The peers with which either end was told to keep a link, and those a host is linked with.

        ``needed``: links that gossip needs, and makes where fewer were dialled.
        """
        lost = sorted(set(wanted) - set(linked))
        if lost:
            self.report("linked", host, f"lacks {len(lost)} of {len(wanted)} links that were dialled: {lost[:3]}")
        if len(linked) > max(len(wanted), needed) + LINKS_SPARE:
            self.report("bounded", host, f"keeps {len(linked)} links, {len(wanted)} of them dialled")

    def connections(self, host: str, dialled: Mapping[str, int]) -> None:
        """Open connections that a host has made, by whom it has dialled."""
        for target, count in dialled.items():
            if count > 1:
                self.report("bounded", host, f"keeps {count} connections to {target}")

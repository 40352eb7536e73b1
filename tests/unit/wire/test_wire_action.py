"""wire/action.py: what agents sign."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from agent_world.testing.examples import example
from agent_world.wire import cbor, limits, record
from agent_world.wire.action import (
    PAYLOADS,
    ActionBundle,
    ActionEnvelope,
    CreateObject,
    GrantResource,
    MoveAgent,
    RegisterAgent,
    TransferResource,
)
from agent_world.wire.evidence import EquivocationEvidence
from agent_world.wire.ids import PublicKey, Signature
from agent_world.wire.lease import AcquireLease, ReleaseLease, RenewLease
from agent_world.wire.membership import MembershipApproval, MembershipChange
from agent_world.wire.signed import Signed


@pytest.mark.parametrize(
    "kind", [ActionBundle, ActionEnvelope, CreateObject, GrantResource, MoveAgent, RegisterAgent, TransferResource]
)
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)


def test_every_kind_has_its_payload() -> None:
    assert {
        "agent.register": RegisterAgent,
        "agent.move": MoveAgent,
        "resource.grant": GrantResource,
        "resource.transfer": TransferResource,
        "object.create": CreateObject,
        "membership.change": MembershipChange,
        "membership.approve": MembershipApproval,
        "evidence.report": EquivocationEvidence,
        "lease.acquire": AcquireLease,
        "lease.renew": RenewLease,
        "lease.release": ReleaseLease,
    } == PAYLOADS


def test_an_action_with_the_largest_payload_is_within_its_limit() -> None:
    envelope = attrs.evolve(example(ActionEnvelope, "highest"), payload_cbor=bytes(limits.PAYLOAD_BYTES_MAX))
    signed = Signed(body=record.to_bytes(envelope), key=PublicKey(bytes(32)), sig=Signature(bytes(64)))
    assert len(record.to_bytes(signed)) < limits.ENVELOPE_BYTES_MAX


@pytest.mark.parametrize("kind", PAYLOADS.values())
def test_no_payload_is_near_its_limit(kind: type) -> None:
    assert len(record.to_bytes(example(kind, "highest"))) < limits.PAYLOAD_BYTES_MAX // 10


def test_only_the_content_of_an_object_is_linked() -> None:
    made = example(CreateObject, "typical")
    assert cbor.links_of(record.unstructure(made)) == [made.content]
    for kind in set(PAYLOADS.values()) - {CreateObject}:
        assert cbor.links_of(record.unstructure(example(kind, "typical"))) == []

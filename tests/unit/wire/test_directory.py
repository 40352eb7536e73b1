from __future__ import annotations

import attrs

from agent_world.crypto.hashing import hash32
from agent_world.testing.examples import example
from agent_world.wire import record
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.directory import MembershipDirectorySnapshot
from agent_world.wire.ids import U64, PublicKey, ValidatorId
from agent_world.wire.limits import MEMBERSHIP_BYTES_MAX, NAME_CHARS_MAX, U64_MAX, VALIDATORS_MAX


def test_the_largest_set_fits_into_its_envelope() -> None:
    members = tuple(
        ValidatorEntry(
            validator_id=ValidatorId(f"{number:0{NAME_CHARS_MAX}}"),
            public_key=PublicKey(hash32(bytes([number]))),
            stake=U64(U64_MAX),
        )
        for number in range(VALIDATORS_MAX)
    )
    largest: MembershipDirectorySnapshot = example(MembershipDirectorySnapshot, "highest")
    said = attrs.evolve(
        largest,
        validators=ValidatorSetRecord(
            validators=members, supermajority_numerator=largest.version, supermajority_denominator=largest.version
        ),
    )
    data = record.to_bytes(said)
    assert record.from_bytes(MembershipDirectorySnapshot, data, size_max=MEMBERSHIP_BYTES_MAX) == said
    assert 32_000 < len(data) + 160 <= MEMBERSHIP_BYTES_MAX

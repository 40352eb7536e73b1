from __future__ import annotations

import attrs

from agent_world.sync import keepers
from agent_world.sync.keepers import KEEPERS_MAX, Keepers
from agent_world.testing.examples import example
from agent_world.wire.capability import CapabilityRecord
from agent_world.wire.hello import Role
from agent_world.wire.ids import U64, PeerId, PublicKey, peer_id_of

A, B, C, D = (peer_id_of(PublicKey(bytes([number]) * 32)) for number in range(1, 5))


def said(peer: PeerId, role: Role, from_height: int = 1, sequence: int = 1) -> CapabilityRecord:
    typical: CapabilityRecord = example(CapabilityRecord, "typical")
    return attrs.evolve(
        typical, peer_id=peer, role=role, from_height=U64(from_height), to_height=U64(9), sequence=U64(sequence)
    )


def known(*records: CapabilityRecord) -> Keepers:
    table = Keepers()
    for item in records:
        table.note(item)
    return table


def test_who_keeps_a_height_comes_first_and_nobody_is_left_out() -> None:
    table = known(said(A, Role.STORAGE, 50), said(B, Role.SEQUENCER), said(D, Role.STORAGE))
    assert table.for_height([A, B, C, D], 20) == [D, B, C, A]
    # Records are older than heads: above to_height a peer's claim counts.
    assert table.for_height([A, B, C, D], 60) == [A, D, B, C]
    assert Keepers().for_height([C, A, B], 1) == [C, A, B]


def test_content_is_with_storage_nodes() -> None:
    table = known(said(A, Role.OBSERVER), said(D, Role.STORAGE))
    assert table.for_content([A, B, C, D], {A, C}) == [D, C, A, B]  # A has signed that it is none


def test_an_older_record_changes_nothing() -> None:
    table = known(said(A, Role.STORAGE, sequence=2), said(A, Role.OBSERVER, sequence=1))
    assert table.of(A) == said(A, Role.STORAGE, sequence=2)
    table.note(said(A, Role.OBSERVER, sequence=3))
    assert table.of(A) == said(A, Role.OBSERVER, sequence=3)
    assert table.of(B) is None


def test_the_table_is_bounded() -> None:
    table = Keepers()
    for number in range(KEEPERS_MAX + 5):
        table.note(said(peer_id_of(PublicKey(number.to_bytes(32, "big"))), Role.STORAGE))
    assert len(table) == keepers.KEEPERS_MAX
    assert table.of(peer_id_of(PublicKey(bytes(32)))) is None

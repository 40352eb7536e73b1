from hypothesis import given, settings

from agent_world.testing.record_strategies import records
from agent_world.wire import record
from agent_world.wire.capability import CapabilityRecord
from agent_world.wire.limits import CAPABILITY_BYTES_MAX


@given(records(CapabilityRecord))
@settings(deadline=None, max_examples=50)
def test_every_record_comes_back_and_fits_into_its_envelope(said: CapabilityRecord) -> None:
    data = record.to_bytes(said)
    assert record.from_bytes(CapabilityRecord, data, size_max=CAPABILITY_BYTES_MAX) == said
    assert len(data) + 160 <= CAPABILITY_BYTES_MAX  # key, signature and the keys of the envelope

"""The interchange form of a guard: what one validator key has signed, for another copy of its guard (docs/guard.md).

It is JSON and nothing in it is secret. Taking one in only ever forbids more: what it tells is not signed again here,
and what it does not tell stays forbidden. The order in which files are taken in does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import attrs

from agent_world.consensus.guard import GuardState
from agent_world.consensus.guard_records import STEP_ORDER, GuardEntry
from agent_world.crypto.hashing import hash32
from agent_world.errors import DataError, DecodeError, InterchangeError
from agent_world.wire import record
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.ids import Hash32, PublicKey, WorldId
from agent_world.wire.limits import I64_MAX, MIB, PROPOSAL_BYTES_MAX
from agent_world.wire.signed import Signed

FORMAT: Final = "agent-world/guard-interchange"
VERSION: Final = 1
INTERCHANGE_BYTES_MAX: Final = MIB
"""Largest file that is read; 48 messages take about 15 KiB."""
_ROUND_MAX: Final = 2**32 - 1


@attrs.frozen(slots=True, kw_only=True)
class GuardIdentity:
    """Whose guard it is: one key in one world."""

    world_id: WorldId
    genesis_hash: Hash32
    validator_key: PublicKey


@attrs.frozen(slots=True, kw_only=True)
class Place:
    """What a validator signs at most once."""

    height: int
    round: int
    step: Step

    @property
    def order(self) -> tuple[int, int, int]:
        """Ascending as a validator signs."""
        return self.height, self.round, STEP_ORDER[self.step]


@attrs.frozen(slots=True, kw_only=True)
class SignedPlace:
    """One signature that was given."""

    place: Place
    block_hash: Hash32 | None
    """The block proposed or voted for; None for nil."""
    signed_hash: Hash32
    """BLAKE3 of the encoded Signed, as sent."""


@attrs.frozen(slots=True, kw_only=True)
class Interchange:
    """One file."""

    identity: GuardIdentity
    watermark: Place | None
    """Nothing above it was signed; None if nothing was signed at all."""
    sign_floor: int
    """Nothing is signed at this height or below."""
    signed: tuple[SignedPlace, ...]
    """The last messages signed, ascending; older ones are left out."""


@attrs.frozen(slots=True, kw_only=True)
class TakenIn:
    """What a file means for a guard."""

    sign_floor: int
    """The guard's floor after it; the only thing that changes."""
    known: int
    """Messages of the file that this guard has signed itself."""
    contradictions: tuple[SignedPlace, ...]
    """Messages of the file where this guard has signed something else: the key has contradicted itself already."""


def export_of(state: GuardState, identity: GuardIdentity) -> Interchange:
    """What a guard knows; raises DataError for an entry that is no signed message."""
    signed = tuple(_signed_place(entry) for entry in state.entries)
    return Interchange(
        identity=identity,
        watermark=signed[-1].place if signed else None,
        sign_floor=state.sign_floor,
        signed=signed,
    )


def _signed_place(entry: GuardEntry) -> SignedPlace:
    place = Place(height=entry.height, round=entry.round, step=entry.step)
    try:
        body = record.from_bytes(Signed, entry.signed, size_max=PROPOSAL_BYTES_MAX).body
        if entry.step is Step.PROPOSE:
            block_hash: Hash32 | None = hash32(record.from_bytes(Proposal, body, size_max=PROPOSAL_BYTES_MAX).block)
        else:
            block_hash = record.from_bytes(Vote, body, size_max=PROPOSAL_BYTES_MAX).block_hash
    except DecodeError as error:
        raise DataError(f"the guard's entry for {place} is no signed message: {error}") from None
    return SignedPlace(place=place, block_hash=block_hash, signed_hash=hash32(entry.signed))


def take_in(state: GuardState, file: Interchange, identity: GuardIdentity) -> TakenIn:
    """What ``file`` forbids beyond what ``state`` forbids; raises InterchangeError for another world or key."""
    check_identity(file, identity)
    own = {known.place: known.signed_hash for known in map(_signed_place, state.entries)}
    floor = max(state.sign_floor, file.sign_floor)
    if file.watermark is not None and not _is_part(state, file, own):
        floor = max(floor, file.watermark.height)
    return TakenIn(
        sign_floor=floor,
        known=sum(own.get(item.place) == item.signed_hash for item in file.signed),
        contradictions=tuple(item for item in file.signed if own.get(item.place, item.signed_hash) != item.signed_hash),
    )


def _is_part(state: GuardState, file: Interchange, own: Mapping[Place, Hash32]) -> bool:
    """Whether this guard forbids all that the file tells of without a higher floor.

    Below its own height it signs nothing. At its own height it goes on only if it has signed all of that itself: with
    somebody else's votes there it would not know the lock that they brought.
    """
    mark = file.watermark
    if mark is None or mark.height < state.height or mark.height <= state.sign_floor:
        return True
    told = [item for item in file.signed if item.place.height == mark.height]
    is_whole = bool(told) and told[-1].place == mark
    return is_whole and all(own.get(item.place) == item.signed_hash for item in told)


def check_identity(file: Interchange, expected: GuardIdentity) -> None:
    """Raises InterchangeError if the file is of another world or key."""
    found = file.identity
    for name in ("world_id", "genesis_hash", "validator_key"):
        there, here = getattr(found, name), getattr(expected, name)
        if there != here:
            raise InterchangeError(
                f"metadata.{name}",
                f"the file is of {_shown(there)}, this home of {_shown(here)}; nothing was changed",
            )


def _shown(value: str | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else f"{value!r:.80}"  # it is anybody's file


def to_json(file: Interchange) -> str:
    """The text of a file."""
    identity, mark = file.identity, file.watermark
    value = {
        "metadata": {
            "format": FORMAT,
            "version": VERSION,
            "world_id": identity.world_id,
            "genesis_hash": identity.genesis_hash.hex(),
            "validator_key": identity.validator_key.hex(),
        },
        "watermark": None if mark is None else _place_json(mark),
        "sign_floor": file.sign_floor,
        "signed": [
            {
                **_place_json(item.place),
                "block_hash": None if item.block_hash is None else item.block_hash.hex(),
                "signed_hash": item.signed_hash.hex(),
            }
            for item in file.signed
        ],
    }
    return json.dumps(value, indent=2) + "\n"


def _place_json(place: Place) -> dict[str, Any]:
    return {"height": place.height, "round": place.round, "step": place.step.value}


def parse(data: bytes) -> Interchange:
    """Strict inverse of ``to_json``; raises InterchangeError that names the place in the file."""
    top = _object(_json(data), "the file", {"metadata", "watermark", "sign_floor", "signed"})
    metadata = _object(top["metadata"], "metadata", {"format", "version", "world_id", "genesis_hash", "validator_key"})
    if metadata["format"] != FORMAT:
        _fail("metadata.format", f"expected {FORMAT!r}")
    if type(metadata["version"]) is not int or metadata["version"] != VERSION:
        _fail("metadata.version", f"this program knows version {VERSION}")
    if type(metadata["world_id"]) is not str:
        _fail("metadata.world_id", "expected text")
    if type(top["signed"]) is not list:
        _fail("signed", "expected a list")
    file = Interchange(
        identity=GuardIdentity(
            world_id=WorldId(metadata["world_id"]),
            genesis_hash=Hash32(_hex32(metadata["genesis_hash"], "metadata.genesis_hash")),
            validator_key=PublicKey(_hex32(metadata["validator_key"], "metadata.validator_key")),
        ),
        watermark=None if top["watermark"] is None else _watermark(top["watermark"]),
        sign_floor=_integer(top["sign_floor"], "sign_floor", 0, I64_MAX),
        signed=tuple(_signed(item, f"signed[{index}]") for index, item in enumerate(top["signed"])),
    )
    _check_order(file)
    return file


def _check_order(file: Interchange) -> None:
    for index, (before, after) in enumerate(zip(file.signed, file.signed[1:], strict=False), start=1):
        if after.place.order <= before.place.order:
            _fail(f"signed[{index}]", "it is not above the one before it")
    if file.signed and (file.watermark is None or file.signed[-1].place.order > file.watermark.order):
        _fail("watermark", "the messages in the file go beyond it")


def _json(data: bytes) -> Any:
    if len(data) > INTERCHANGE_BYTES_MAX:
        _fail("the file", f"it is larger than {INTERCHANGE_BYTES_MAX} bytes")
    try:
        return json.loads(
            data.decode(), object_pairs_hook=_no_key_twice, parse_float=_no_number, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:  # also for text that is not UTF-8
        _fail("the file", f"it is not JSON: {error}")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a whole number")


def _object(value: Any, place: str, keys: set[str]) -> dict[str, Any]:
    if type(value) is not dict:
        _fail(place, "expected an object")
    for name in sorted(keys - value.keys()):
        _fail(place, f"{name!r} is missing")
    for name in sorted(value.keys() - keys):
        _fail(place, f"{name!r:.80} is unknown")
    found: dict[str, Any] = value
    return found


def _watermark(value: Any) -> Place:
    return _place(_object(value, "watermark", {"height", "round", "step"}), "watermark")


def _signed(value: Any, place: str) -> SignedPlace:
    found = _object(value, place, {"height", "round", "step", "block_hash", "signed_hash"})
    block = found["block_hash"]
    return SignedPlace(
        place=_place(found, place),
        block_hash=None if block is None else Hash32(_hex32(block, f"{place}.block_hash")),
        signed_hash=Hash32(_hex32(found["signed_hash"], f"{place}.signed_hash")),
    )


def _place(found: dict[str, Any], place: str) -> Place:
    if found["step"] not in tuple(Step):
        _fail(f"{place}.step", f"expected one of {', '.join(Step)}")
    return Place(
        height=_integer(found["height"], f"{place}.height", 1, I64_MAX),
        round=_integer(found["round"], f"{place}.round", 0, _ROUND_MAX),
        step=Step(found["step"]),
    )


def _integer(value: Any, place: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        _fail(place, f"expected a whole number in {low}..{high}")
    return int(value)


def _hex32(value: Any, place: str) -> bytes:
    if type(value) is not str or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        _fail(place, "expected 64 lower-case hex digits")
    return bytes.fromhex(value)


def _fail(place: str, detail: str) -> NoReturn:
    raise InterchangeError(place, detail)

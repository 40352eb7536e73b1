"""Genesis: the file that people write, the record that is hashed, and the state that follows from it."""

from __future__ import annotations

import tomllib
from typing import Any, Final

from agent_world.config import require
from agent_world.consensus.stake import is_byzantine_safe
from agent_world.crypto.hashing import actor_id_of, hash32
from agent_world.errors import DecodeError, UsageError
from agent_world.wire import record
from agent_world.wire.cid import Cid
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.genesis import Genesis, WorldParams
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U64, Hash32, Name, PublicKey, TimeMs, ValidatorId, WorldId
from agent_world.wire.limits import U64_MAX, VALIDATORS_MAX
from agent_world.world.epochs import seat_validators
from agent_world.world.records import (
    ACTORS,
    CLOCK,
    NAMESPACES,
    UNLIMITED_QUOTA,
    VALIDATORS,
    WORLD,
    ActorRecord,
    ClockRecord,
    WorldRecord,
)
from agent_world.world.state import WorldState, empty_state
from agent_world.world.trie import Blobs

AUTHORITY_NAME: Final = Name("authority")
"""Name of the actor that genesis creates."""

_TOP: Final = (
    "world_id",
    "genesis_time_ms",
    "authority",
    "epoch_length_slots",
    "slash_equivocation",
    "params",
    "supermajority",
    "validators",
)
_DEFAULTS: Final = {"slash_equivocation": True}
"""Keys that a file may leave out."""
_PARAMS: Final = ("move_speed_max_cm_per_s", "actor_storage_quota_bytes")
_RATIO: Final = ("numerator", "denominator")
_VALIDATOR: Final = ("validator_id", "public_key", "stake")


def parse_genesis(toml_text: str, source: str) -> Genesis:
    """The genesis of a TOML file; ``source`` is its name in errors.

    Raises UsageError naming the file, the key and what is expected there.
    """
    try:
        file = tomllib.loads(toml_text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: not TOML: {error}") from None
    top = _keys({**_DEFAULTS, **file}, _TOP, source, "")
    params = _keys(top["params"], _PARAMS, source, "params.")
    genesis = Genesis(
        world_id=_field(source, "world_id", top["world_id"], WorldId),
        genesis_time_ms=_field(source, "genesis_time_ms", top["genesis_time_ms"], TimeMs),
        authority=_public_key(source, "authority", top["authority"]),
        epoch_length_slots=_field(source, "epoch_length_slots", top["epoch_length_slots"], U64),
        validators=_validators(source, top["validators"], top["supermajority"]),
        slash_equivocation=_field(source, "slash_equivocation", top["slash_equivocation"], bool),
        params=WorldParams(**{name: _field(source, f"params.{name}", params[name], U64) for name in _PARAMS}),
    )
    check_genesis(genesis, source)
    return genesis


def _validators(source: str, tables: Any, ratio: Any) -> ValidatorSetRecord:
    ratio = _keys(ratio, _RATIO, source, "supermajority.")
    require(isinstance(tables, list), f"{source}: validators: write one [[validators]] table for each")
    members = []
    for index, table in enumerate(tables):
        path = f"validators[{index}]."
        member = _keys(table, _VALIDATOR, source, path)
        members.append(
            ValidatorEntry(
                validator_id=_field(source, f"{path}validator_id", member["validator_id"], ValidatorId),
                public_key=_public_key(source, f"{path}public_key", member["public_key"]),
                stake=_field(source, f"{path}stake", member["stake"], U64),
            )
        )
    return ValidatorSetRecord(
        validators=tuple(sorted(members, key=lambda member: member.validator_id)),
        supermajority_numerator=_field(source, "supermajority.numerator", ratio["numerator"], U64),
        supermajority_denominator=_field(source, "supermajority.denominator", ratio["denominator"], U64),
    )


def check_genesis(genesis: Genesis, source: str) -> None:
    """Raise UsageError unless a world can run on this genesis."""
    members = genesis.validators.validators
    numerator = genesis.validators.supermajority_numerator
    denominator = genesis.validators.supermajority_denominator
    ids = [member.validator_id for member in members]
    require(1 <= len(members) <= VALIDATORS_MAX, f"{source}: validators: name 1 to {VALIDATORS_MAX} validators")
    require(ids == sorted(set(ids)), f"{source}: validators: every validator_id must be there once, ascending")
    keys = {member.public_key for member in members}
    require(len(keys) == len(members), f"{source}: validators: two have the same public_key; give each its own")
    require(genesis.authority not in keys, f"{source}: authority: it must not be a validator's key (D3)")
    require(all(member.stake > 0 for member in members), f"{source}: validators: every stake must be above 0")
    total = sum(member.stake for member in members)
    require(total <= U64_MAX, f"{source}: validators: the stakes add up to more than 2^64-1")
    require(
        denominator > 0 and numerator <= denominator and is_byzantine_safe(numerator, denominator),
        f"{source}: supermajority: numerator/denominator must be from 2/3 to 1, or two blocks could be certified",
    )
    require(genesis.epoch_length_slots > 0, f"{source}: epoch_length_slots must be above 0")


def genesis_toml(genesis: Genesis) -> str:
    """The file of a genesis; ``parse_genesis`` gives the same genesis back."""
    lines = [
        f'world_id = "{genesis.world_id}"',
        f"genesis_time_ms = {genesis.genesis_time_ms}",
        f'authority = "{genesis.authority.hex()}"',
        f"epoch_length_slots = {genesis.epoch_length_slots}",
        f"slash_equivocation = {'true' if genesis.slash_equivocation else 'false'}",
        "",
        "[params]",
        *(f"{name} = {getattr(genesis.params, name)}" for name in _PARAMS),
        "",
        "[supermajority]",
        f"numerator = {genesis.validators.supermajority_numerator}",
        f"denominator = {genesis.validators.supermajority_denominator}",
    ]
    for member in genesis.validators.validators:
        lines += [
            "",
            "[[validators]]",
            f'validator_id = "{member.validator_id}"',
            f'public_key = "{member.public_key.hex()}"',
            f"stake = {member.stake}",
        ]
    return "\n".join(lines) + "\n"


def genesis_hash(genesis: Genesis) -> Hash32:
    """BLAKE3 of the encoded genesis: what signatures, handshakes and block 1 refer to."""
    return hash32(record.to_bytes(genesis))


def initial_state(genesis: Genesis) -> tuple[Cid, Blobs]:
    """State root at height 0 and all of its blobs."""
    empty_root, empty = empty_state(NAMESPACES)
    state = WorldState(empty_root, lambda digest: empty[digest])
    state.put(WORLD, _world_record(genesis))
    state.put(
        CLOCK, ClockRecord(height=U64(0), slot=U64(0), timestamp_ms=genesis.genesis_time_ms, last_event_id=U64(0))
    )
    state.put(VALIDATORS, genesis.validators)
    seat_validators(state, genesis.validators.validators)
    authority = ActorRecord(
        name=AUTHORITY_NAME,
        public_key=genesis.authority,
        nonce=U64(0),
        registration_quota=UNLIMITED_QUOTA,
        storage_used_bytes=U64(0),
    )
    state.put(ACTORS, authority, actor_id_of(genesis.authority))
    state_root, blobs = state.flush()
    untouched = {root.digest for root in state.roots.values()} - blobs.keys()
    return state_root, {**{digest: empty[digest] for digest in untouched}, **blobs}


def genesis_head(genesis: Genesis) -> WorldHead:
    """The head of a world that has only its genesis: height 0, the genesis hash, the initial state."""
    return WorldHead(
        world_id=genesis.world_id,
        height=U64(0),
        block_hash=genesis_hash(genesis),
        state_root=initial_state(genesis)[0],
        timestamp_ms=genesis.genesis_time_ms,
    )


def _world_record(genesis: Genesis) -> WorldRecord:
    return WorldRecord(
        world_id=genesis.world_id,
        genesis_hash=genesis_hash(genesis),
        authority=actor_id_of(genesis.authority),
        epoch_length_slots=genesis.epoch_length_slots,
        slash_equivocation=genesis.slash_equivocation,
        params=genesis.params,
    )


def _keys(table: Any, names: tuple[str, ...], source: str, path: str) -> dict[str, Any]:
    """A copy of a TOML table that has exactly these keys."""
    require(isinstance(table, dict), f"{source}: {path.rstrip('.')}: write a table with {', '.join(names)}")
    for name in sorted(table):
        require(name in names, f"{source}: {path}{name}: unknown key; known here: {', '.join(names)}")
    for name in names:
        require(name in table, f"{source}: {path}{name}: missing; add it")
    return dict(table)


def _field(source: str, path: str, value: Any, kind: Any) -> Any:
    """A value of the file as its type of ``wire.ids``."""
    try:
        return record.structure(value, kind)
    except DecodeError as error:
        raise UsageError(f"{source}: {path}: {error.detail}") from None


def _public_key(source: str, path: str, value: Any) -> PublicKey:
    try:
        data = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        data = b""
    require(
        len(data) == 32 and data.hex() == value,
        f"{source}: {path}: write an Ed25519 public key as 64 lower-case hex digits",
    )
    return PublicKey(data)

"""Ed25519 key pairs and the text form of a key file. Reading and writing files is not done here."""

from __future__ import annotations

from nacl.signing import SigningKey

from agent_world.errors import UsageError
from agent_world.wire.ids import PublicKey, Signature

_HEADER = "agent-world ed25519 seed v1"


class KeyPair:
    """An Ed25519 key pair; the seed is shown by ``to_text`` only, never by ``repr``."""

    __slots__ = ("_signing", "public_key")

    def __init__(self, seed: bytes) -> None:
        self._signing = SigningKey(seed)
        self.public_key = PublicKey(bytes(self._signing.verify_key))

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes."""
        return bytes(self._signing)

    def sign(self, message: bytes) -> Signature:
        """Detached signature. Use ``crypto.signing``, which adds domain and world."""
        return Signature(self._signing.sign(message).signature)

    def to_text(self) -> str:
        """Content of a key file (mode 0600): a header line and the seed in hex."""
        return f"{_HEADER}\n{self.seed.hex()}\n"

    @classmethod
    def from_text(cls, text: str, source: str) -> KeyPair:
        """Inverse of ``to_text``; raises UsageError naming ``source``."""
        lines = text.split()
        header = " ".join(lines[:-1])
        try:
            seed = bytes.fromhex(lines[-1]) if lines else b""
        except ValueError:
            seed = b""
        if header != _HEADER or len(seed) != 32:
            raise UsageError(f"{source} is not a key file of agent-world; make one with: agent-world keys new")
        return cls(seed)

    def __repr__(self) -> str:
        return f"KeyPair({self.public_key.hex()[:16]}…)"

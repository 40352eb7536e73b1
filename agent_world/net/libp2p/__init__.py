"""The network over libp2p sockets. Importing this package imports libp2p: 0.7 s and 84 MB (D11)."""

from __future__ import annotations

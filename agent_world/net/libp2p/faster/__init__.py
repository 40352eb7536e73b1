"""Faster replacements of parts of py-libp2p 0.8.1, one file a part; NetConfig.faster names those in use.

Each speaks the same protocol as the part it replaces and leaves every decision about endings and errors to it;
tests/net/test_faster_parts.py compares the two.
"""

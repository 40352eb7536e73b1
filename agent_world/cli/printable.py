"""Text from elsewhere on a terminal: paths, names and reasons come from peers, and may hold whatever drives one."""

from __future__ import annotations

import click


def printable(text: str) -> str:
    r"""``text`` with what is no letter, sign or plain space as an escape of Python: ``\x1b``, ``\n``, ``\u202e``.

    Nothing that a peer names can clear the screen, begin a new line, or turn the writing around. A backslash stays as
    it is; ``--json`` tells both apart.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def say(text: str, *, err: bool = False) -> None:
    """Print one line that has words of others in it."""
    click.echo(printable(text), err=err)

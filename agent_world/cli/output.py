"""How commands print: one JSON value on request, else a small table for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent_world.cli.printable import printable
from agent_world.wire.jsonable import jsonable

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """The ``--json`` flag every command has."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON value instead of text.")(function)


def show(data: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a mapping: as JSON, or as two columns. A value is only text: what peers name must not be markup."""
    if as_json:
        click.echo(json.dumps(jsonable(data), indent=2))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in flatten(jsonable(data)):
        table.add_row(Text(printable(key)), Text(printable(value)))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print a list: as a JSON list, or as a table with the given columns."""
    if as_json:
        click.echo(json.dumps(jsonable(rows), indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(text_of(jsonable(row.get(column))))) for column in columns))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def text_of(value: Any) -> str:
    """A cell for people; nothing is shown as a dash."""
    if value is None:
        return "-"
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def flatten(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as dotted keys, in order."""
    rows: list[tuple[str, str]] = []
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            rows.extend(flatten(value, f"{name}."))
        else:
            rows.append((name, text_of(value)))
    return rows

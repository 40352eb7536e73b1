"""``python -m bench [ROW] [OPTIONS]``: run one row with its own options, or every row. A row is a module here whose
``main`` is a click command; ``--json`` prints one JSON value a row. Peers that are not installed are skipped."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import click

import bench


def rows() -> dict[str, click.Command]:
    """Row by module name; modules of peers are left out, since they import what may not be installed."""
    names = [module.name for module in pkgutil.iter_modules(bench.__path__)]
    modules = {name: importlib.import_module(f"bench.{name}") for name in names if not name.startswith(("peer_", "_"))}
    found = {name: getattr(module, "main", None) for name, module in modules.items()}
    return {name: main for name, main in found.items() if isinstance(main, click.Command)}


def main(arguments: list[str]) -> None:
    known = rows()
    if arguments and not arguments[0].startswith("-"):
        if arguments[0] not in known:
            sys.exit(f"no such row: {arguments[0]}; there are: {', '.join(known)}")
        known[arguments[0]].main(arguments[1:], prog_name=f"python -m bench {arguments[0]}")
    for command in known.values():
        command.main(list(arguments), standalone_mode=False)


if __name__ == "__main__":
    main(sys.argv[1:])

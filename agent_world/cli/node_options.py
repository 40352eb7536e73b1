"""Options of ``node run`` and how they change node.toml's settings."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from agent_world.cli.challenge_options import apply_challenge_options
from agent_world.errors import UsageError


def apply_options(table: dict[str, Any], options: dict[str, Any]) -> None:
    """Command line over node.toml: role, topology, listen, bootstrap, and ``--set section.key=value``."""
    for name in ("role", "topology"):
        if options.get(name) is not None:
            table[name] = options[name]
    net = table.setdefault("net", {})
    if not isinstance(net, dict):
        return  # build_settings says what is wrong with it
    for name in ("listen", "bootstrap"):
        if options.get(name):
            net[name] = list(options[name])
    apply_challenge_options(table, options)
    for item in options.get("settings") or ():
        _set(table, item)


def _set(table: dict[str, Any], item: str) -> None:
    name, equals, text = item.partition("=")
    section, dot, key = name.partition(".")
    if not equals or not dot or not section or not key:
        raise UsageError(f"--set {item}: write it as section.key=value, such as consensus.block_interval_ms=500")
    place = table.setdefault(section, {})
    if not isinstance(place, dict):
        raise UsageError(f"--set {item}: {section} is not a section")
    place[key] = _value(text)


def _value(text: str) -> Any:
    words = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def set_up_logging(*, verbose: bool, as_json: bool) -> None:
    """Structured log lines on stderr; py-libp2p's own logger is kept to errors."""
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=logging.CRITICAL, force=True)
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Looked up for every line: who redirects stderr later, as tests do, gets the lines too.
        logger_factory=lambda *_arguments: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )

"""Stake decides in one place, consensus/stake.py; a count of votes is stake of 1 each, and never a certificate."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

KERNEL = "agent_world/consensus/stake.py"
DECIDING = {"required_stake", "quorum_threshold", "supermajority_numerator", "supermajority_denominator"}
ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
CERTIFYING = ("agent_world.consensus.certificate", "agent_world.consensus.engine", "agent_world.consensus.messages")


def own_decisions(source: Any) -> list[str]:
    return [
        f"{source.name}:{node.lineno}: weighs {ast.unparse(node)}; ask decide_pos_status, or ValidatorSet.is_quorum"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ORDER) for operator in node.ops)
        and any(last_name(operand) in DECIDING for operand in (node.left, *node.comparators))
    ]


def last_name(node: ast.expr) -> str:
    return ast.unparse(node).rsplit(".", 1)[-1]


def certifying(source: Any) -> list[str]:
    return [
        f"{source.name}:{node.lineno}: imports {node.module}; a count of votes never certifies a block (D4)"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and node.module in CERTIFYING
    ]


def test_only_the_kernel_weighs_stake(product: list[Any], clean: Callable[..., None]) -> None:
    assert any(source.name == KERNEL for source in product)
    clean(own_decisions, [source for source in product if source.name != KERNEL])


def test_the_quorum_facade_certifies_nothing(product: list[Any], clean: Callable[..., None]) -> None:
    quorum = [source for source in product if source.name.startswith("agent_world/consensus/quorum")]
    assert quorum
    clean(certifying, quorum)


def test_the_checks_can_fail(sample: Callable[..., Any]) -> None:
    assert own_decisions(sample("if stake < validators.required_stake:\n    pass\n"))
    assert own_decisions(sample("enough = self.quorum_threshold <= len(votes)\n"))
    assert not own_decisions(sample("same = a.required_stake == b.required_stake\n"))
    assert not own_decisions(sample("if stake > 0:\n    pass\n"))
    assert certifying(sample("from agent_world.consensus.certificate import verify_certificate\n"))

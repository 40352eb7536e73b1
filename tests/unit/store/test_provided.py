import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.errors import HomeError
from agent_world.store.home import Home
from agent_world.store.provided import ProvidedCounts, ProvidedRoots
from agent_world.wire.ids import TimeMs

A, B, C = (cid_of(name) for name in (b"a", b"b", b"c"))


def test_what_is_registered_is_due_until_it_is_postponed(home: Home) -> None:
    roots = ProvidedRoots(home)
    assert roots.register([A, B, A], 100) == 2
    assert roots.register([B, C], 50) == 1
    assert roots.due(49, 10) == ()
    assert roots.due(100, 10)[0] == C
    assert set(roots.due(100, 10)) == {A, B, C}
    assert len(roots.due(100, 2)) == 2
    roots.postpone(C, 500)
    assert set(ProvidedRoots(home).due(100, 10)) == {A, B}
    assert roots.counts(100) == ProvidedCounts(roots=3, due=2, next_due_ms=TimeMs(100))
    assert roots.withdraw(A)
    assert not roots.withdraw(A)
    assert not roots.has(A)
    assert roots.has(C)


def test_an_empty_table(home: Home) -> None:
    assert ProvidedRoots(home).counts(1) == ProvidedCounts(roots=0, due=0, next_due_ms=None)


def test_the_walk_goes_on_where_it_was(home: Home) -> None:
    roots = ProvidedRoots(home)
    assert roots.walked_height == 0
    assert roots.walked(3, [A], 1) == 1
    assert roots.walked(4, [], 1) == 0
    assert ProvidedRoots(home).walked_height == 4
    roots.walked(2, [], 1)
    assert roots.walked_height == 4


def test_a_full_table_refuses_and_says_so(home: Home) -> None:
    roots = ProvidedRoots(home, roots_max=2)
    assert roots.register([A, B, C], 1) == 2
    assert roots.refused == 1
    assert roots.register([C], 1) == 0
    assert roots.refused == 2
    roots.withdraw(A)
    assert roots.register([C], 1) == 1


def test_damage_is_said(home: Home) -> None:
    roots = ProvidedRoots(home)
    home.database.execute("INSERT INTO provided_roots VALUES (x'00', 1)")
    with pytest.raises(HomeError, match="damaged"):
        roots.due(1, 1)

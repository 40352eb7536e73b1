from __future__ import annotations

from agent_world.consensus.judging import JudgeBook
from agent_world.crypto.hashing import hash32

X = hash32(b"x")


def test_a_block_is_asked_about_once() -> None:
    book = JudgeBook()
    assert book.opinion(X, fresh=True) is None
    assert book.ask(X, fresh=True)
    assert not book.ask(X, fresh=True)
    assert not book.ask(X, fresh=False)
    assert book.answer(X, valid=True)
    assert not book.ask(X, fresh=False)
    assert book.opinion(X, fresh=True) is book.opinion(X, fresh=False) is True


def test_an_answer_nobody_asked_for_counts_for_nothing() -> None:
    book = JudgeBook()
    assert not book.answer(X, valid=True)
    assert book.opinion(X, fresh=False) is None


def test_a_block_refused_when_fresh_is_judged_again_without_the_clock() -> None:
    book = JudgeBook()
    book.ask(X, fresh=True)
    book.answer(X, valid=False)
    assert book.opinion(X, fresh=True) is False
    assert book.opinion(X, fresh=False) is None
    assert not book.ask(X, fresh=True)
    assert book.ask(X, fresh=False)
    book.answer(X, valid=True)
    assert book.opinion(X, fresh=True) is True


def test_a_block_refused_without_the_clock_stays_refused() -> None:
    book = JudgeBook()
    book.ask(X, fresh=False)
    book.answer(X, valid=False)
    assert book.opinion(X, fresh=True) is book.opinion(X, fresh=False) is False


def test_not_now_is_no_verdict() -> None:
    book = JudgeBook()
    book.ask(X, fresh=True)
    assert book.answer(X, valid=None)
    assert book.opinion(X, fresh=True) is None
    assert not book.ask(X, fresh=True)
    book.retry()
    assert book.ask(X, fresh=True)


def test_an_own_block_is_valid() -> None:
    book = JudgeBook()
    book.note_valid(X)
    assert book.opinion(X, fresh=True) is True

"""Which blocks of a height this node has judged, so that each is executed once."""

from __future__ import annotations

from agent_world.wire.ids import Hash32


class JudgeBook:
    """Verdicts by block hash, and the questions that are out.

    A fresh block may be refused for its time alone, which is nobody else's business: proposed again with prevotes of
    the required stake it is judged once more without the clock (D4 "Time").
    """

    def __init__(self) -> None:
        self._verdicts: dict[Hash32, bool] = {}
        self._refused_fresh: set[Hash32] = set()
        self._asked: dict[Hash32, bool] = {}

    def opinion(self, block_hash: Hash32, *, fresh: bool) -> bool | None:
        """The verdict; None while there is none."""
        verdict = self._verdicts.get(block_hash)
        if verdict is None and fresh and block_hash in self._refused_fresh:
            return False
        return verdict

    def ask(self, block_hash: Hash32, *, fresh: bool) -> bool:
        """Note the question; False if it is out already or needs no asking."""
        if block_hash in self._asked or self.opinion(block_hash, fresh=fresh) is not None:
            return False
        self._asked[block_hash] = fresh
        return True

    def answer(self, block_hash: Hash32, *, valid: bool) -> bool:
        """Note an answer; False if nobody asked."""
        fresh = self._asked.pop(block_hash, None)
        if fresh is None:
            return False
        if fresh and not valid:
            self._refused_fresh.add(block_hash)
        else:
            self._verdicts[block_hash] = valid
        return True

    def note_valid(self, block_hash: Hash32) -> None:
        """A block built here: its builder has executed it."""
        self._verdicts[block_hash] = True

    def forget(self, block_hash: Hash32) -> None:
        """The block was dropped."""
        self._verdicts.pop(block_hash, None)
        self._refused_fresh.discard(block_hash)
        self._asked.pop(block_hash, None)

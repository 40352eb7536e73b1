"""Which blocks of a height this node has judged, so that each is executed once."""

from __future__ import annotations

from agent_world.wire.ids import Hash32


class JudgeBook:
    """Verdicts by block hash, and the questions that are out.

    A fresh block may be refused for its time alone, which is nobody else's business: proposed again with prevotes of
    the required stake it is judged once more without the clock (D4 "Time"). A block that could not be judged, since
    something it needs was not to be had, is asked about again later.
    """

    def __init__(self) -> None:
        self._verdicts: dict[Hash32, bool] = {}
        self._refused_fresh: set[Hash32] = set()
        self._asked: dict[Hash32, bool] = {}
        self._deferred: set[Hash32] = set()

    def opinion(self, block_hash: Hash32, *, fresh: bool) -> bool | None:
        """The verdict; None while there is none."""
        verdict = self._verdicts.get(block_hash)
        if verdict is None and fresh and block_hash in self._refused_fresh:
            return False
        return verdict

    def ask(self, block_hash: Hash32, *, fresh: bool) -> bool:
        """Note the question; False if it is out already or needs no asking."""
        if block_hash in self._asked or block_hash in self._deferred:
            return False
        if self.opinion(block_hash, fresh=fresh) is not None:
            return False
        self._asked[block_hash] = fresh
        return True

    def answer(self, block_hash: Hash32, *, valid: bool | None) -> bool:
        """Note an answer, None for "not now"; returns False if nobody asked."""
        fresh = self._asked.pop(block_hash, None)
        if fresh is None:
            return False
        if valid is None:
            self._deferred.add(block_hash)
        elif fresh and not valid:
            self._refused_fresh.add(block_hash)
        else:
            self._verdicts[block_hash] = valid
        return True

    def note_valid(self, block_hash: Hash32) -> None:
        """A block built here: its builder has executed it."""
        self._verdicts[block_hash] = True

    def retry(self) -> None:
        """Blocks that could not be judged may be asked about again."""
        self._deferred.clear()

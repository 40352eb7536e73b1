from __future__ import annotations

import pytest

from agent_world.cli.progress import bytes_progress, count_progress, counted


def test_every_part_moves_the_bar_and_comes_through(capfd: pytest.CaptureFixture[str]) -> None:
    with bytes_progress("storing", 6) as bar:
        assert list(counted(iter([b"ab", b"cdef"]), bar)) == [b"ab", b"cdef"]
        assert bar.tasks[0].completed == 6
        assert bar.finished
    assert capfd.readouterr() == ("", "")


def test_it_is_shown_on_a_terminal_and_not_with_json(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with count_progress("reading blobs", quiet=True) as bar:
        bar.refresh()
    assert capfd.readouterr() == ("", "")
    with count_progress("reading blobs") as bar:
        bar.refresh()
    out, err = capfd.readouterr()
    assert out == ""
    assert "reading blobs" in err

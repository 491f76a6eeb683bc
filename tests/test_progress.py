"""Progress: bars, the live display on a terminal, and the lines of a log."""

import io
import os
import sys
import time

import pytest
from rich.console import Console

from editbench import progress
from editbench.progress import Bar, Display, LiveDisplay, LiveStatus, PlainDisplay, phase, shown_in
from editbench.tracking import RunObserver
from tests.commands.test_cli import editbench, place, run_arguments  # noqa: F401
from tests.tracking.test_observer import HEADLINE, score, texts

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
STATUS = LiveStatus(
    20,
    1,
    {
        "so far": {"reliability": (0.95, 19), "generality": (0.9, 19), "locality": (1.0, 18)},
        "after 10 edits": {"reliability": (0.9, 10)},
    },
    {"plain": (1.644, 1.652)},
)


@pytest.fixture
def clock(monkeypatch):
    """Time that a test moves on."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def live_display(width=100):
    return LiveDisplay("rome, pocket, seed 0", Console(file=io.StringIO(), force_terminal=True, width=width))


def frame(view):
    """What the view shows now, as plain lines."""
    console = Console(file=io.StringIO(), width=view.console.width)
    console.print(view.frame())
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


# -- progress ---------------------------------------------------------------------------------------------------------


def test_a_bar_knows_its_rate_and_the_time_left_in_this_process(clock):
    bar = Bar("editing", 50, before=30, done=30)
    assert (bar.rate, bar.left) == (None, None)
    clock(5.0)
    bar.advance(10, "")
    assert (bar.rate, bar.left) == (2.0, 5.0)
    clock(1.0)
    assert (bar.rate, bar.left) == (2.0, 4.0)  # a step that takes its time does not change the rate
    clock(60.0)
    assert bar.left == 0.0


def test_bars_go_to_the_view_and_nothing_is_shown_without_a_terminal(capsys):
    with shown_in(Display()) as view:
        phase("editing")
        with progress.progress("editing", 3, done=1) as advance:
            advance()
            with progress.progress("answering", 7):
                assert [(bar.description, bar.done, bar.total) for bar in view.bars] == [
                    ("editing", 2, 3),
                    ("answering", 0, 7),
                ]
        assert view.bars == []
    assert progress.display() is None
    with progress.progress("alone", 2) as advance:
        advance(2)
    assert capsys.readouterr() == ("", "")


# -- the live view ----------------------------------------------------------------------------------------------------


def test_a_frame_shows_what_runs_how_far_it_is_and_the_run_s_status(clock, monkeypatch):
    monkeypatch.setattr(progress, "memory", lambda: {"memory": 3 * 2**28, "GPU": 3 * 2**30})
    view = live_display()
    view.phase = "loading"
    assert frame(view)[:2] == ["rome, pocket, seed 0", "loading …"]
    view.phase, view.status = "editing", STATUS
    view.bars = [Bar("editing", 50), Bar("answering", 9)]
    clock(1.0)
    view.bars[0].advance(20, "")
    assert frame(view) == [
        "rome, pocket, seed 0",
        f"editing {'━' * 16}{' ' * 24} 20/50, 20.0/s, 0:02 left",  # the inner bar is too young to be worth showing
        "so far: reliability 0.950 (19), generality 0.900 (19), locality 1.000 (18)",
        "after 10 edits: reliability 0.900 (10)",
        "perplexity: plain 1.644 → 1.652",
        "not edited: 1 of 20",
        "memory 768 MiB, GPU 3.0 GiB, running for 0:01",
    ]
    clock(3605.0)
    assert frame(view)[2].startswith("answering ") and frame(view)[-1].endswith("running for 1:00:06")


@pytest.mark.parametrize("width", [20, 40, 79])
def test_a_narrow_terminal_loses_nothing(width):
    view = live_display(width)
    view.phase, view.status, view.bars = "preparing", STATUS, [Bar("covariance", 12_000)]
    lines = frame(view)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for word in ("preparing:", "0/12000", "reliability", "0.950", "(19),", "locality", "1.644", "memory"):
        assert word in words


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_the_terminal_is_left_clean_however_the_run_ends(error):
    view = live_display(40)
    try:
        with shown_in(view):
            phase("loading")
            assert view.live.is_started
            if error is not None:
                raise error
    except (KeyboardInterrupt, ValueError):
        pass
    out = view.console.file.getvalue()
    assert out.count(HIDE) == out.count(SHOW) == 1
    _, _, after = out.rpartition(SHOW)
    assert after.count("\x1b[2K") == len(frame(view))  # every line of the last frame is taken away
    assert sys.stderr is not None and progress.display() is None


@pytest.mark.parametrize(("name", "live"), [("xterm", True), ("dumb", False), ("unknown", False)])
def test_a_dumb_terminal_gets_no_frames(monkeypatch, name, live):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", name)
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    assert progress.is_terminal() == live
    with progress.watching("x", live=True) as view:
        assert isinstance(view, LiveDisplay if live else PlainDisplay)
    with progress.watching("x", live=False) as view:
        assert isinstance(view, PlainDisplay)


# -- where there is no terminal ---------------------------------------------------------------------------------------


def test_a_log_gets_one_line_in_thirty_seconds(clock, capsys):
    with shown_in(PlainDisplay("rome, pocket")) as view:
        phase("editing")
        view.status = STATUS
        with progress.progress("editing", 50) as advance:
            for _ in range(50):
                clock(1.5)
                advance()
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert not out and "\x1b" not in err
    assert first.startswith("rome, pocket: editing 20/50, 1.5 s each, 0:45 left; so far: reliability 0.950 (19), ")
    assert second.startswith("rome, pocket: editing 40/50")


def test_memory_is_what_is_in_use_now():
    before = progress.memory()["memory"]
    block = bytearray(os.urandom(1 << 20)) * 64
    assert progress.memory()["memory"] - before > 32 << 20
    del block


# -- the run's status -----------------------------------------------------------------------------------------------


def test_the_observer_shows_the_run_s_status_in_the_view():
    with shown_in(Display()) as view:
        observer = RunObserver(headline=HEADLINE)
        observer.resume([{"batch": 0, "ids": ["id0"], "seconds": 1.0}], [texts("plain", 0, "before", perplexity=2.0)])
        observer.edit({"batch": 1, "ids": ["id1", "id2"], "seconds": 1.0, "failed": {"id2": "NaN"}})
        observer.rows([score(0, 2, r=1.0, l=0.5), score(1, 2, r=0.0), score(2, 2, status="failed")])
        assert view.status == LiveStatus(
            3, 1, {"so far": {"reliability": (0.5, 2), "locality": (0.5, 1)}}, {"plain": (2.0, 2.0)}
        )
        observer.rows([score(0, 3, "interim", r=1.0)])
        observer.rows([texts("plain", 3, "interim", perplexity=2.5), texts("drift", 3, weight_change=1.0)])
        assert view.status.means["after 3 edits"] == {"reliability": (1.0, 1)}
        assert view.status.perplexity == {"plain": (2.0, 2.5)}
        observer.rows([score(0, 3, "final", r=0.0)])
        assert list(view.status.means) == ["so far", "at the end"]

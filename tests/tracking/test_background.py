"""Services that raise, hang or do not start: a run goes on, is not slowed down, and says it once."""

import logging
import threading
import time

import pytest

from editbench.tracking import RunObserver, Tracker, TrackerConfig
from editbench.tracking.base import BackgroundTracker
from tests.tracking.test_observer import HEADLINE, Recorder, score, tracked


class Broken(Tracker):
    """Raises on every call, or from some call on."""

    def __init__(self, start_works=True):
        super().__init__(TrackerConfig())
        self.start_works = start_works
        self.calls = 0

    def start(self, run):
        self.calls += 1
        if not self.start_works:
            raise ConnectionError("no route to host\nand more")

    def log(self, step, values):
        self.calls += 1
        raise OSError("network down")

    table = log

    def finish(self, summary, status):
        self.calls += 1
        raise OSError("network down")


class Hanging(Recorder):
    """Hangs in its first ``log``."""

    def __init__(self):
        super().__init__()
        self.wake = threading.Event()

    def log(self, step, values):
        self.wake.wait()


def guarded(backend, **settings):
    return BackgroundTracker(
        backend, TrackerConfig(name="test", **{"start_seconds": 5.0, "finish_seconds": 5.0, **settings})
    )


def show_a_run(tracker, folder, edits=20):
    """Everything that a run calls; the seconds that it took."""
    begun = time.monotonic()
    with RunObserver(tracker, HEADLINE) as observer:
        observer.start(tracked(folder))
        for i in range(edits):
            observer.edit({"batch": i, "ids": [f"id{i}"], "seconds": 0.1})
            observer.rows([score(i, i + 1, r=1.0)])
    return time.monotonic() - begun


@pytest.mark.parametrize(("start_works", "calls"), [(True, 43), (False, 1)])
def test_a_service_that_raises_is_said_once(tmp_path, caplog, start_works, calls):
    backend = Broken(start_works)
    assert show_a_run(guarded(backend), tmp_path) < 4
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    text = "log failed (OSError: network down)" if start_works else "start failed (ConnectionError: no route to host)"
    assert text in record.getMessage()
    assert backend.calls == calls  # start, 2 x 20 log, table, finish; or nothing after a start that failed


@pytest.mark.parametrize(("edits", "full"), [(500, True), (1, False)])
def test_a_service_that_hangs_neither_blocks_nor_delays(tmp_path, caplog, edits, full):
    backend = Hanging()
    assert show_a_run(guarded(backend, queue=5, finish_seconds=0.3), tmp_path, edits=edits) < 3
    *dropped, late = [record.getMessage() for record in caplog.records]
    assert ["5 calls are waiting, further ones are dropped" in message for message in dropped] == [True] * full
    assert "not finished within 0.3 s" in late
    backend.wake.set()  # should it wake up, it closes the run, and no more
    deadline = time.monotonic() + 5
    while backend.calls[-1][0] != "finish" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [call[0] for call in backend.calls] == ["start", "finish"]


def test_a_service_that_does_not_start_is_waited_for_once(tmp_path, caplog):
    class Slow(Recorder):
        def start(self, run):
            time.sleep(30)

    assert show_a_run(guarded(Slow(), start_seconds=0.3, finish_seconds=0.2), tmp_path) < 2
    assert "not finished within" in caplog.records[-1].getMessage()


def test_a_service_that_works_gets_every_call_in_order(tmp_path):
    backend = Recorder()
    show_a_run(guarded(backend), tmp_path, edits=3)
    names = [call[0] for call in backend.calls]
    assert names == ["start", *["log"] * 6, "table", "finish"]
    assert [call[1] for call in backend.calls if call[0] == "log"] == [1, 1, 2, 2, 3, 3]


def test_finish_without_start_returns():
    guarded(Recorder()).finish({}, "done")

"""Runs of methods with edits beside the weights that are killed at any point, and go on with the same bits."""

import math

import pytest

from editbench import checkpoint, ledger_files, single_run
from editbench.editor import Editor
from editbench.gradient_based.batch_states import BatchStates
from editbench.ledger_files import LedgerFiles
from editbench.registry import load_method
from tests.small_runs import overrides_of
from tests.test_editing_loop import comparable, make, tiny_folder  # noqa: F401

STREAM = ["stream.edits=5", "stream.batch_size=2", "protocol.stages=[final]"]


def points(method):
    """Where a run is killed: function by name and holder."""
    return {
        "before an edit": (Editor, "edit"),
        "before its batch is written": (LedgerFiles, "append"),
        "before the index names it": (ledger_files, "append_lines"),
        "before the memory has it": (load_method(method), "take") if method != "defer" else (BatchStates, "keep"),
        "before the checkpoint": (checkpoint, "write_tensors"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grace", "wise", "melo", "defer"])
def test_a_killed_run_goes_on_with_the_same_bits(make, monkeypatch, method):  # noqa: F811
    """A process is killed at the second call of a function; another one ends the run."""

    def run(results):
        return single_run.run(make(*STREAM, settings=overrides_of(method), method=[], results=results)).folder

    whole = run("whole")
    monkeypatch.setattr("editbench.checkpoint.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("editbench.checkpoint.MAX_SHARE", math.inf)
    for number, (point, (holder, name)) in enumerate(points(method).items()):
        with monkeypatch.context() as patch:
            kill_at_second_call(patch, holder, name)
            with pytest.raises(KeyboardInterrupt):
                run(f"killed-{number}")
        assert comparable(run(f"killed-{number}")) == comparable(whole), point


def kill_at_second_call(patch, holder, name):
    calls, own = [], getattr(holder, name)

    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return own(*args, **kwargs)

    patch.setattr(holder, name, call)

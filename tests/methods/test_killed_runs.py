"""Runs of methods that keep something beside the weights: killed at any point, they go on with the same bits."""

import math

import pytest

from editbench import checkpoint, ledger_files, single_run
from editbench.editor import Editor
from editbench.gradient_based.batch_states import BatchStates
from editbench.gradient_based.editor import BatchStateEditor
from editbench.ledger_files import LedgerFiles
from editbench.memory_based.journal import JournalledEditor
from editbench.registry import load_method
from tests.small_runs import each, overrides_of
from tests.test_editing_loop import comparable, make, tiny_folder  # noqa: F401

STREAM = ["stream.edits=5", "stream.batch_size=2", "protocol.stages=[final]"]
METHODS = {
    "grace": [],
    "wise": [],
    "melo": [],
    "defer": [],
    "in_context": [],
    "retrieval": [],
    "ultraedit": [],
    "mend": [],
    "rledit": [],
    "lora": ["method.dropout=0.2"],
    "finetune": ["method.replay=2", "method.ewc=100.0"],
}
"""By method: settings that bring its memory into play."""


def points(method):
    """Where a run is killed: function by name and holder."""
    editor = load_method(method)
    remember = {JournalledEditor: (editor, "take"), BatchStateEditor: (BatchStates, "keep")}
    memory = {f"before {kind.__name__}s remember": at for kind, at in remember.items() if issubclass(editor, kind)}
    return {
        "before an edit": (Editor, "edit"),
        "before its batch is written": (LedgerFiles, "append"),
        "before the index names it": (ledger_files, "append_lines"),
        **memory,
        "before the checkpoint": (checkpoint, "write_tensors"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", each(METHODS))
def test_a_killed_run_goes_on_with_the_same_bits(make, monkeypatch, method):  # noqa: F811
    """A process is killed at the second call of a function; another one ends the run."""
    if method == "lora":
        pytest.importorskip("peft", reason="peft is not installed")

    def run(results):
        settings = [*overrides_of(method), *METHODS[method]]
        return single_run.run(make(*STREAM, settings=settings, method=[], results=results)).folder

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

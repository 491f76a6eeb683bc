"""Runs of methods with a memory, or with changes that are tried first, that stop within a stream and go on."""

import math

import pytest

from editbench import single_run
from editbench.editor import Editor
from tests.small_runs import each, overrides_of
from tests.test_editing_loop import comparable, lines, make, tiny_folder  # noqa: F401

STREAM = ["stream.edits=5", "stream.batch_size=2"]
METHODS = ("memit_seq", "alphaedit", "rect", "prune", "emmet", "pmet", "nse")


@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize("method", each(METHODS))
def test_a_run_that_is_killed_about_an_edit_ends_with_the_same_bits(make, monkeypatch, method, when):  # noqa: F811
    """Killed in its second batch: before it, or when it is in the model and the ledger but not in the checkpoint."""

    def run(results):
        return single_run.run(make(*STREAM, settings=[], method=overrides_of(method), results=results))

    whole = run("whole")
    monkeypatch.setattr("editbench.checkpoint.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("editbench.checkpoint.MAX_SHARE", math.inf)
    edit, calls = Editor.edit, []

    def stop(self, batch):
        calls.append(batch)
        if len(calls) == 2:
            if when == "behind":
                edit(self, batch)
            raise KeyboardInterrupt
        return edit(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr("editbench.editor.Editor.edit", stop)
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    resumed = run("stopped")
    assert comparable(resumed.folder) == comparable(whole.folder)
    digests = [
        [line["digest"] for line in lines(one.folder, "ledger/index.jsonl") if "batch" in line]
        for one in (whole, resumed)
    ]
    assert digests[0] == digests[1] and len(digests[0]) == (4 if method == "prune" else 3)

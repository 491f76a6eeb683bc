"""In-context editing: demonstrations of the split train, and a run with them that is stopped and goes on."""

import json

import pytest

from editbench import EditRecord, EditRequest, Resources, make_editor, single_run
from editbench.datasets.disjoint import CrossingError
from editbench.editing_loop import EditingLoop
from tests.small_runs import REQUESTS, counterfact_rows
from tests.test_editing_loop import comparable, make, tiny_folder  # noqa: F401
from tests.tiny_models import tiny_lm

TRAINING = [
    EditRecord(EditRequest("x", "Anaal Nathrakh was created in", None, "Rome")),
    EditRecord(EditRequest("y", "Edwin speaks", None, "Polish")),
    EditRecord(EditRequest("z", "Toko Yasuda plays a", None, "guitar")),
]


def in_context(records=TRAINING, **settings):
    resources = Resources(load_training_records=lambda: records)
    settings = {"layer": 1, "fact": "{prompt} {target}. ", "lead": "", **settings}
    return make_editor("in_context", tiny_lm("llama"), resources=resources, **settings)


def test_nearest_demonstrations_come_first_and_the_nearest_of_them_last():
    editor = in_context(demonstrations=2)
    assert editor.asked("Toko Yasuda plays a") == "Toko Yasuda plays a"
    editor.edit(REQUESTS[2:3])
    fact = "The twin city of Lyon is Rome. "
    shown = [part.strip() for part in editor.asked("Toko Yasuda plays a").split("\n\n")]
    assert len(shown) == 3 and shown[2] == f"{fact}Toko Yasuda plays a"
    assert shown[1] == "Toko Yasuda plays a guitar. Toko Yasuda plays a guitar"


def test_first_demonstrations_are_the_same_for_every_prompt():
    editor = in_context(demonstrations=2, choice="first")
    editor.edit(REQUESTS[2:3])
    fronts = {editor.asked(prompt).removesuffix(prompt) for prompt in ("Lyon is", "Edwin speaks")}
    (front,) = fronts
    assert front.index("Polish") < front.index("Anaal") < front.index("twin city")  # nearest to the facts: the first


def test_too_few_or_no_training_records_are_refused_before_the_first_edit():
    with pytest.raises(ValueError, match="demonstrations is 4, but the split train has 3 records"):
        in_context(demonstrations=4).prepare(REQUESTS)
    editor = make_editor("in_context", tiny_lm("gpt2"), demonstrations=1, layer=1)
    with pytest.raises(ValueError, match="learns from training records, and none were given"):
        editor.prepare(REQUESTS)
    in_context(demonstrations=0).prepare(REQUESTS)


SHOWN = ["method=in_context", "method.demonstrations=2", "method.layer=1", "dataset.split=stream", "stream.edits=4"]
PLENTY = 120


@pytest.fixture
def plenty(tmp_path):
    """So many records that each split has some."""
    rows = []
    for i in range(PLENTY):
        row = list(counterfact_rows(6))[i % 6]
        rows.append({**json.loads(json.dumps(row).replace(f"Person{i % 6} ", f"Person{i} ")), "case_id": i})
    (tmp_path / "counterfact.json").write_text(json.dumps(rows))


def test_a_run_shows_training_records_and_goes_on_where_it_was_stopped(make, plenty, monkeypatch):  # noqa: F811
    whole = single_run.run(make(settings=SHOWN, method=[], results="whole"))
    score, calls = EditingLoop._score, []

    def stop(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(self, *args)

    monkeypatch.setattr("editbench.checkpoint.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("editbench.checkpoint.MAX_SHARE", float("inf"))
    with monkeypatch.context() as patch:
        patch.setattr(EditingLoop, "_score", stop)
        with pytest.raises(KeyboardInterrupt):
            single_run.run(make(settings=SHOWN, method=[]))
    again = single_run.run(make(settings=SHOWN, method=[]))
    assert comparable(again.folder) == comparable(whole.folder)


def test_a_stream_of_all_records_is_refused(make, plenty):  # noqa: F811
    everything = ["dataset.split=all", f"stream.edits={PLENTY}"]
    with pytest.raises(CrossingError, match="give dataset.split=stream"):
        single_run.run(make(*everything, settings=SHOWN[:3], method=[]))

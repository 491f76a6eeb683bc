"""Trackers without any service: what is shown, in what order, and how a tracker is opened."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from editbench.results.curves import LiveCurves
from editbench.tracking import RunObserver, TrackedRun, Tracker, TrackerConfig, open_tracker
from editbench.tracking.observer import RecordTable, flat_summary

HEADLINE = {"reliability": "rewrite.exact", "generality": "paraphrase.exact", "locality": "locality.same"}
INFO = {
    "run": "cf-pocket-rome-e4-b2-s0-abc",
    "started": "2030-01-01T00:00:00+00:00",
    "provenance": {
        "dataset": {"name": "counterfact"},
        "model": {"name": "pocket"},
        "method": {"name": "rome"},
        "stream": {"edits": 4, "batch_size": 2},
        "identity": "0a1b2c3d4e5f6071",
    },
}


def score(position, edits, stage="immediate", status="scored", **scores):
    """A score row; ``r`` is the rewrite's score, ``l`` locality's."""
    named = {"rewrite.exact": scores.get("r"), "locality.same": scores.get("l")}
    row = {"stage": stage, "edits": edits, "batch": 0, "record": f"id{position}", "position": position}
    return {**row, "status": status, "scores": {k: v for k, v in named.items() if v is not None}}


def texts(name, edits, stage="final", **scores):
    return {
        "stage": stage,
        "edits": edits,
        "batch": 0,
        "of": name if name in ("drift", "footprint") else f"perplexity.{name}",
        "scores": scores,
    }


def tracked(folder, **info):
    return TrackedRun.of(folder, {**INFO, **info}, {"seed": 3}, None, ["mine"])


# -- what is shown ----------------------------------------------------------------------------------------------------


def test_immediate_curves_are_running_means_over_all_records_so_far():
    curves = LiveCurves(HEADLINE)
    assert curves.rows([score(0, 2, r=1.0, l=0.5), score(1, 2, r=0.0)]) == {
        2: {"immediate/reliability": 0.5, "immediate/locality": 0.5}
    }
    # No number for reliability here, and an unsupported record: neither enters a mean.
    assert curves.rows([score(2, 4, l=1.0), score(3, 4, status="unsupported")]) == {
        4: {"immediate/reliability": 0.5, "immediate/locality": 0.75}
    }


def test_values_that_are_no_numbers_enter_no_mean():
    points = LiveCurves(HEADLINE).rows([score(0, 2, r=float("nan")), score(1, 2, r=0.25)])
    assert points == {2: {"immediate/reliability": 0.25}}


def test_edit_rows_give_seconds_an_edit_and_count_what_was_not_edited():
    curves = LiveCurves(HEADLINE)
    first = {"batch": 0, "ids": ["a", "b"], "seconds": 3.0, "skipped": {"b": "why"}, "failed": {}}
    second = {"batch": 1, "ids": ["c"], "seconds": 2.0}
    assert curves.edit(first) == {2: {"cost/seconds_per_edit": 1.5, "cost/edit_seconds": 3.0, "unedited": 1.0}}
    assert curves.edit(second) == {3: {"cost/seconds_per_edit": 2.0, "cost/edit_seconds": 5.0, "unedited": 1.0}}


def test_a_look_back_in_several_parts_is_one_point_with_texts_and_drift():
    curves = LiveCurves(HEADLINE)
    assert curves.rows([score(0, 4, "interim", r=1.0)]) == {}
    assert curves.rows([score(1, 4, "interim", r=0.5)]) == {}
    rows = [
        texts("plain", 4, "interim", perplexity=3.5, tokens=10),
        texts("drift", 4, "interim", weight_change=0.125, hidden_change=None),
        texts("footprint", 4, "interim", device=7),
    ]
    expected = {"retained/reliability": 0.75, "perplexity/plain": 3.5, "drift/weight_change": 0.125}
    assert curves.rows(rows) == {4: {**expected, "footprint/device": 7.0}}
    assert curves.rows([texts("plain", 4, perplexity=3.0)]) == {4: {"perplexity/plain": 3.0}}
    assert curves.rows([score(0, 6, "final", r=0.0), texts("plain", 6, perplexity=4.0)]) == {
        6: {"retained/reliability": 0.0, "perplexity/plain": 4.0}
    }


ASKED_NOTHING = {"prompt": None, "target": None, "before": None}


def test_the_table_has_each_edit_with_the_answers_before_and_after():
    table = RecordTable()
    own = {"kind": "rewrite", "prompt": "Ada speaks", "target": "French", "before": "English", "correct": [True]}
    other = {**own, "kind": "paraphrase", "prompt": "Ada's language is"}
    for stage, answer in (("immediate", "French"), ("final", "Dutch")):
        table.add([{**score(0, 1, stage, r=1.0), "probes": [other, {**own, "answer": answer}]}])
    (row,) = table.rows()
    assert list(row)[4:] == ["prompt", "target", "before", *ANSWERS, "immediate/rewrite.exact"]
    assert [row[name] for name in list(row)[4:9]] == ["Ada speaks", "French", "English", "Dutch", 1.0]
    assert row["immediate/answer"] == "French"


ANSWERS = ("final/answer", "final/rewrite.exact", "immediate/answer")


def test_the_table_has_one_row_a_record_with_both_moments():
    table = RecordTable()
    table.add([score(1, 2, r=1.0), score(0, 2, r=0.5), texts("plain", 0, "before", perplexity=1.0)])
    table.add([score(0, 4, "final", r=0.0), {**score(1, 4, "final", status="failed"), "reason": "NaN"}])
    assert table.rows() == [
        {
            **{"position": 0, "record": "id0", "status": "scored", "reason": None, **ASKED_NOTHING},
            **{"final/rewrite.exact": 0.0, "immediate/rewrite.exact": 0.5},
        },
        {
            **{"position": 1, "record": "id1", "status": "failed", "reason": "NaN", **ASKED_NOTHING},
            **{"final/rewrite.exact": None, "immediate/rewrite.exact": 1.0},
        },
    ]


def test_the_summary_is_flat_and_holds_numbers_only():
    from editbench.results.summary import summarise

    rows = [score(0, 1, "final", r=1.0, l=0.5), texts("plain", 1, perplexity=2.0), texts("drift", 1, weight_change=0.5)]
    flat = flat_summary(summarise(rows, HEADLINE), {"edit_seconds": 2.0, "footprint": {"device": 5}})
    assert flat["final/reliability/mean"] == 1.0
    assert flat["final/locality/n"] == 1.0
    assert flat["final/perplexity/plain"] == 2.0
    assert flat["final/drift/weight_change"] == 0.5
    assert flat["cost/edit_seconds"] == 2.0
    assert flat["footprint/device"] == 5.0
    assert "final/generality/mean" not in flat
    assert all(isinstance(value, float) for value in flat.values())


# -- the observer -----------------------------------------------------------------------------------------------------


class Recorder(Tracker):
    """Keeps its calls."""

    def __init__(self):
        super().__init__(TrackerConfig())
        self.calls = []

    def start(self, run):
        self.calls.append(("start", run.name))

    def log(self, step, values):
        self.calls.append(("log", step, dict(values)))

    def table(self, name, rows):
        self.calls.append(("table", name, len(rows)))

    def finish(self, summary, status):
        self.calls.append(("finish", status, dict(summary)))


def test_calls_come_in_the_order_of_the_run(tmp_path):
    recorder = Recorder()
    with RunObserver(recorder, HEADLINE, memory=lambda: {"peak_rss_bytes": 9, "peak_cuda_bytes": 0}) as observer:
        observer.start(tracked(tmp_path))
        observer.rows([texts("plain", 0, "before", perplexity=3.0)])
        observer.edit({"batch": 0, "ids": ["id0"], "seconds": 0.5})
        observer.rows([score(0, 1, r=1.0)])
        observer.done({"final": None}, {"edit_seconds": 0.5})
    costs = {"cost/seconds_per_edit": 0.5, "cost/edit_seconds": 0.5, "unedited": 0.0, "cost/peak_rss_bytes": 9.0}
    assert recorder.calls == [
        ("start", INFO["run"]),
        ("log", 0, {"perplexity/plain": 3.0}),
        ("log", 1, costs),
        ("log", 1, {"immediate/reliability": 1.0}),
        ("table", "records", 1),
        ("finish", "done", {"cost/edit_seconds": 0.5, "status": "done"}),
    ]


def test_a_resumed_run_goes_on_with_its_running_means():
    recorder = Recorder()
    observer = RunObserver(recorder, HEADLINE)
    observer.resume([{"batch": 0, "ids": ["id0"], "seconds": 1.0}], [score(0, 1, r=1.0)])
    assert recorder.calls == []
    observer.edit({"batch": 1, "ids": ["id1"], "seconds": 1.0})
    observer.rows([score(1, 2, r=0.0)])
    assert [call[1] for call in recorder.calls] == [2, 2]
    assert recorder.calls[1][2] == {"immediate/reliability": 0.5}


@pytest.mark.parametrize(("error", "status"), [(ValueError("no"), "failed"), (KeyboardInterrupt(), "interrupted")])
def test_an_error_closes_the_run_with_its_status_and_goes_on_up(error, status):
    recorder = Recorder()
    with pytest.raises(type(error)), RunObserver(recorder, HEADLINE):
        raise error
    assert recorder.calls[-1][1] == status
    assert type(error).__name__ in recorder.calls[-1][2]["reason"]


def test_rows_that_cannot_be_read_do_not_end_a_run(caplog):
    observer = RunObserver(Recorder(), HEADLINE)
    for _ in range(3):
        observer.rows([{"nonsense": True}])
        observer.edit({})
    assert len(caplog.records) == 1


# -- opening ----------------------------------------------------------------------------------------------------------


def test_without_a_tracker_nothing_is_imported():
    code = """
import sys
from editbench.tracking import RunObserver, TrackerConfig, open_tracker
observer = RunObserver(open_tracker(TrackerConfig()))
observer.edit({"ids": [], "seconds": 0.0}); observer.rows([]); observer.finish("done")
print(sorted({"wandb", "tensorboard", "trackio", "torch", "numpy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "wandbb"}, "unknown tracker 'wandbb'; did you mean 'wandb'?"),
        ({"name": "wandb", "mode": "ofline"}, "unknown tracker mode 'ofline'; did you mean 'offline'?"),
        ({"name": "wandb", "queue": 0}, "tracker.queue is 0; it must be positive"),
    ],
)
def test_wrong_settings_are_said(settings, message):
    with pytest.raises(ValueError, match="^" + message.replace("?", r"\?")):
        open_tracker(TrackerConfig(**settings))


@pytest.mark.parametrize("name", ["tensorboard", "trackio"])
def test_a_missing_package_names_the_extra(monkeypatch, name):
    monkeypatch.setattr("editbench.tracking.base.util.find_spec", lambda package: None)
    with pytest.raises(ValueError, match=rf"pip install 'editbench\[{name}\]'"):
        open_tracker(TrackerConfig(name=name))


def test_a_tracker_of_another_package_is_found_with_its_own_settings(monkeypatch):
    class Aim(Recorder):
        @dataclass
        class Settings:
            repo: str = "."

        def __init__(self, config, settings):
            super().__init__()
            self.settings = settings

    class Point:
        value = "aim:Aim"

        def load(self):
            return Aim

    monkeypatch.setattr("editbench.plugins.entry_points", lambda group: {"aim": Point()})
    tracker = open_tracker(TrackerConfig(name="aim", settings={"repo": "here"}))
    assert tracker._backend.settings == Aim.Settings("here")
    with pytest.raises(ValueError, match="unknown setting of tracker=aim 'repa'; did you mean 'repo'"):
        open_tracker(TrackerConfig(name="aim", settings={"repa": "here"}))


def test_none_is_free():
    assert open_tracker(TrackerConfig()) is None

"""The embedded world's questions: by hand, on the pocket model, and through a run."""

import importlib.util
import math

import pytest
import torch

import editbench
from editbench import compose as composing_module
from editbench.conf_groups import conf_names
from editbench.editor import Editor
from editbench.evaluation.general_ability import NSE_TASKS, Ability, pocket_world
from editbench.evaluation.general_ability.pocket_world import Item, PocketAbility
from editbench.model.likelihood import TargetScore
from editbench.pocket import world
from editbench.results.leaderboard import collect
from tests.evaluation.examples import Bystander
from tests.evaluation.general_ability.states import assert_untouched, rows_of, state_of
from tests.tiny_models import tiny_lm


def test_pocket_scores_by_hand(monkeypatch):
    asked = [Item(("a", "b"), ("c", "d"), "x", ("y", "z")), Item(("e", "f"), ("g", "h"), "y", ("x", "z"))]

    def scores(*nlls, right=True):
        return tuple(TargetScore(nll, (right,), (0,)) for nll in nlls)

    canned = {
        "a": scores(1.0, 2.0, 3.0),
        "b": scores(2.0, 1.0, 3.0, right=False),
        "c": scores(1.0, 1.0, 3.0, right=False),  # a tie is no choice
        "d": scores(1.0, 2.0, 1.5, right=False),  # likelier than the others, but something else comes first
        "e": scores(1.0, 2.0, 3.0),
        "f": scores(1.0, 2.0, 3.0),
        "g": scores(math.nan, 2.0, 3.0, right=False),
        "h": scores(1.0, 2.0, math.inf),
    }
    monkeypatch.setattr(
        pocket_world, "score_targets", lambda lm, queries, **_: [canned[query.prompt] for query in queries]
    )
    [found] = PocketAbility(asked).measure(None)
    assert found.test == "pocket" and found.n == 2
    assert found.scores == {"recall": (0.5 + 1) / 2, "held_out": (0 + 0.5) / 2, "choice": (0.5 + 0.75) / 2}
    # Two values that differ by d have s = d / √2 and s / √n = d / 2.
    assert found.stderr == pytest.approx({"recall": 0.25, "held_out": 0.25, "choice": 0.125})


def test_pocket_asks_about_subjects_of_no_record():
    asked = PocketAbility().asked
    names = [subject.name for subject in world.build().group("bystander")]
    assert len(asked) == 3 * len(names) == 120
    for item in asked:
        prompts = [*item.trained, *item.held_out]
        assert len(set(prompts)) == 4 and len(item.others) >= 15 and item.right not in item.others
        assert any(all(name in prompt for prompt in prompts) for name in names)


@pytest.mark.slow
def test_pocket_knows_its_world_until_it_is_damaged(pocket):
    before, bystander = state_of(pocket), Bystander()
    [whole] = PocketAbility().measure(pocket)
    assert min(whole.scores.values()) > 0.99 and whole.n == 120
    assert PocketAbility(tokens_per_batch=4096).measure(pocket, bystander) == [whole]
    assert sum(map(len, bystander.columns)) == 4 * 120  # each prompt is a row, and the editor knows where it ends
    assert_untouched(pocket, before)
    damaged = editbench.load_model("pocket")
    generator = torch.Generator().manual_seed(0)
    for parameter in damaged.model.parameters():
        parameter.data += 0.8 * parameter.std() * torch.randn(parameter.shape, generator=generator)
    [less] = PocketAbility().measure(damaged, bystander)
    assert all(less.scores[name] < 0.8 * whole.scores[name] for name in whole.scores)
    assert all(0 < error < 0.05 for error in less.stderr.values())
    with pytest.raises(ValueError, match=r"knows \d+% unedited; for other models"):
        PocketAbility().measure(damaged)


def test_pocket_refuses_another_model():
    with pytest.raises(ValueError, match="asks about the embedded world"):
        PocketAbility().measure(tiny_lm("llama"))


@pytest.mark.slow
def test_a_run_measures_ability_before_at_checkpoints_and_at_the_end(run, tmp_path):
    rows = [row for row in rows_of(run().folder) if row.get("of", "").startswith("ability.")]
    assert [(r["of"].removeprefix("ability."), r["stage"], r["edits"], r["batch"], r["n"]) for r in rows] == [
        ("pocket", "before", 0, -1, 6),
        ("pocket", "interim", 2, 1, 6),
        ("pocket", "final", 4, 3, 6),
    ]
    (row,) = collect(tmp_path / "results")
    assert row["before.ability.pocket.choice"] == rows[0]["scores"]["choice"]
    assert row["final.ability.pocket.choice"] == rows[2]["scores"]["choice"]
    assert row["final.ability.pocket.choice_n"] == 6
    assert row["final.ability.pocket.choice_low"] <= row["final.ability.pocket.choice"]


@pytest.mark.slow
@pytest.mark.parametrize("crash_at", [0, 3])
def test_a_stopped_run_neither_doubles_rows_nor_measures_again(run, monkeypatch, crash_at):
    whole = rows_of(run(results="whole").folder)
    monkeypatch.setattr("editbench.checkpoint.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("editbench.checkpoint.MAX_SHARE", float("inf"))
    measured, edit, done = [], Editor.edit, []
    measure = PocketAbility.measure

    def stop_at(self, batch):
        if len(done) == crash_at:
            raise KeyboardInterrupt
        done.append(batch)
        return edit(self, batch)

    monkeypatch.setattr(
        PocketAbility, "measure", lambda self, lm, editor=None: measured.append(editor) or measure(self, lm, editor)
    )
    with monkeypatch.context() as patch:
        patch.setattr(Editor, "edit", stop_at)
        with pytest.raises(KeyboardInterrupt):
            run(results="stopped")
    assert rows_of(run(results="stopped").folder) == whole
    assert len(measured) == 3 and [editor is None for editor in measured] == [True, False, False]


@pytest.mark.slow
def test_a_checkpoint_at_the_end_is_measured_once(run, monkeypatch):
    measured = []
    monkeypatch.setattr(
        PocketAbility, "measure", lambda *_: measured.append(0) or [Ability("pocket", {"recall": 1.0}, {}, 1)]
    )
    rows = rows_of(run("stream.evaluate_at=[4]").folder)
    assert [r["stage"] for r in rows if r.get("of", "").startswith("ability.")] == ["before", "interim", "final"]
    assert len(measured) == 2


@pytest.mark.slow
def test_nothing_is_measured_by_default(run):
    assert not any(row.get("of", "").startswith("ability.") for row in rows_of(run("ability=none").folder))


def test_what_is_wrong_is_said_before_a_run_begins(run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="unknown ability"):
        composing_module.check(["ability=nsee"])
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "editbench.evaluation.general_ability.find_spec",
        lambda name: None if name == "lm_eval" else find_spec(name),
    )
    with pytest.raises(ValueError, match=r'sst2, mrpc, .* pip install "editbench\[lm-eval\]"'):
        run("ability=nse")
    assert not (tmp_path / "results").exists()


def test_the_choices_are_what_they_say():
    chosen = {
        name: composing_module.compose([f"ability={name}"]).protocol.ability.tasks for name in conf_names("ability")
    }
    glue = [f"glue_{task}" for task in ("sst2", "mrpc", "cola", "rte", "mmlu", "nli")]
    assert {**chosen, "glue": sorted(chosen["glue"])} == {
        **{"none": [], "pocket": ["pocket"], "facts": ["pocket"]},
        **{"nse": list(NSE_TASKS), "glue": sorted(glue)},
    }

"""General ability: the embedded world's questions, lm-eval's tasks on the model in memory, and their way into a run."""

import copy
import importlib.util
import json
import math
import random
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import yaml

import editbench
from editbench import compose as composing_module
from editbench import single_run
from editbench.compose import conf_names
from editbench.editor import Editor
from editbench.evaluation.general_ability import pocket_world
from editbench.evaluation.general_ability.base import NSE_TASKS, Ability, lm_eval_tasks
from editbench.evaluation.general_ability.pocket_world import Item, PocketAbility, items
from editbench.model.likelihood import Answer
from editbench.pocket import dataset_files, world
from editbench.results.curves import Curves, curves
from editbench.results.leaderboard import collect
from editbench.results.run_folder import RunFolder
from editbench.results.summary import summarise
from editbench.tracking.observer import flat_summary
from tests import test_session
from tests.zoo import tiny_lm

make, tiny_folder = test_session.make, test_session.tiny_folder  # fixtures

needs_lm_eval = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed")


class Bystander:
    """An editor that changes nothing, and remembers what it was told."""

    def __init__(self):
        self.columns = []

    @contextmanager
    def answering(self, last_prompt_columns):
        self.columns.append(list(last_prompt_columns))
        yield


@pytest.fixture(scope="module")
def pocket():
    """The pocket Llama; who changes it puts it back."""
    return editbench.load_model("pocket")


def state_of(lm):
    """Everything of a model that a test could have touched."""
    tokenizer = lm.tokenizer
    return {
        "weights": {name: (id(p), p.detach().clone()) for name, p in lm.model.named_parameters()},
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules()],
        "mode": [m.training for m in lm.model.modules()],
        "grad": [p.requires_grad for p in lm.model.parameters()],
        "tokenizer": (
            tokenizer.padding_side,
            tokenizer.pad_token_id,
            len(tokenizer),
            tokenizer.backend_tokenizer.to_str(),
        ),
        "generation": lm.model.generation_config.to_dict(),
    }


def assert_untouched(lm, before):
    now = state_of(lm)
    for name, (identity, value) in before.pop("weights").items():
        assert now["weights"][name][0] == identity
        assert torch.equal(now["weights"][name][1], value)
    assert {k: v for k, v in now.items() if k != "weights"} == before


# -- the embedded world's questions -----------------------------------------------------------------------------------


def test_pocket_scores_by_hand(monkeypatch):
    asked = [Item(("a", "b"), ("c", "d"), "x", ("y", "z")), Item(("e", "f"), ("g", "h"), "y", ("x", "z"))]

    def said(*nlls, right=True):
        return tuple(Answer(nll, (right,), (0,)) for nll in nlls)

    canned = {
        "a": said(1.0, 2.0, 3.0),
        "b": said(2.0, 1.0, 3.0, right=False),
        "c": said(1.0, 1.0, 3.0, right=False),  # a tie is no choice
        "d": said(1.0, 2.0, 1.5, right=False),  # likelier than the others, but something else comes first
        "e": said(1.0, 2.0, 3.0),
        "f": said(1.0, 2.0, 3.0),
        "g": said(math.nan, 2.0, 3.0, right=False),
        "h": said(1.0, 2.0, math.inf),
    }
    monkeypatch.setattr(pocket_world, "answer", lambda lm, queries, **_: [canned[query.prompt] for query in queries])
    [found] = PocketAbility(asked).measure(None)
    assert found.test == "pocket" and found.n == 2
    assert found.scores == {"recall": (0.5 + 1) / 2, "held_out": (0 + 0.5) / 2, "choice": (0.5 + 0.75) / 2}
    # Two values that differ by d have s = d / √2 and s / √n = d / 2.
    assert found.stderr == pytest.approx({"recall": 0.25, "held_out": 0.25, "choice": 0.125})


def test_pocket_asks_about_subjects_of_no_record():
    asked = PocketAbility().asked
    names = [subject.name for subject in world.build().role("generic")]
    assert len(asked) == 3 * len(names) == 120
    for item in asked:
        prompts = [query.prompt for query in item.queries]
        assert len(set(prompts)) == 4 and len(item.others) >= 15 and item.right not in item.others
        assert any(all(name in prompt for prompt in prompts) for name in names)
    apart = ("locality_prompt", "locality_ground_truth")  # Hallucination's unrelated texts tell of anybody unedited
    told = [
        {key: value for key, value in record.items() if key not in apart} for record in dataset_files.hallucination()
    ]
    records = json.dumps([dataset_files.counterfact(), dataset_files.zsre(), told])
    assert not any(name in records for name in names)


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


# -- rows to summary, leaderboard, curves -----------------------------------------------------------------------------


def ability_row(stage, edits, recall, stderr=0.1):
    one = Ability("pocket", {"recall": recall}, {"recall": stderr}, 9)
    return {"stage": stage, "edits": edits, "batch": edits - 1, **one.row()}


def test_rows_are_strict_json_and_summarised(tmp_path):
    with RunFolder.create(tmp_path, "run", "") as store:
        store.append_scores([ability_row("before", 0, 0.5), ability_row("final", 4, math.nan, math.nan)])
        rows = store.scores()
        with pytest.raises(ValueError, match="n='many'"):
            store.append_scores([{**ability_row("final", 4, 1.0), "n": "many"}])
    assert rows[1]["scores"] == {"recall": None} and rows[1]["nonfinite"] == ["recall", "stderr.recall"]
    summary = summarise(rows, {})
    expected = {
        "mean": 0.5,
        "low": pytest.approx(0.2694, abs=1e-5),
        "high": pytest.approx(0.7306, abs=1e-5),
        "n": 9,
        "nonfinite": 0,
    }
    assert summary["before"]["model"] == {"ability.pocket": {"recall": expected}}
    nothing = {"mean": None, "low": None, "high": None, "n": 9, "nonfinite": 1}
    assert summary["final"]["model"] == {"ability.pocket": {"recall": nothing}}
    assert summary["final"]["measures"] == {}
    with pytest.raises(ValueError, match="ability.pocket .* more than once"):
        summarise([*rows, rows[1]], {})


@pytest.mark.parametrize(("share", "n"), [(1.0, 120), (0.0, 120), (1.0, 1)])
def test_items_that_are_all_alike_leave_a_standard_error_and_a_width(share, n):
    one = Ability.of_items("pocket", {"recall": [share] * n})
    error = np.std([0, 1, *[share] * n], ddof=1) / math.sqrt(n + 2)
    assert one.stderr["recall"] == pytest.approx(error) and error > 0
    row = {"stage": "final", "edits": 4, "batch": 3, **one.row()}
    measure = summarise([row], {})["final"]["model"]["ability.pocket"]["recall"]
    width = 1 - 0.025 ** (1 / n)  # Clopper and Pearson
    assert (measure["low"], measure["high"]) == pytest.approx((1 - width, 1.0) if share else (0.0, width), abs=1e-6)


@needs_lm_eval
def test_lm_evals_standard_error_of_0_is_none():
    from editbench.evaluation.general_ability.lm_eval import _ability

    result = {"acc,none": 1.0, "acc_stderr,none": 0.0, "mcc,none": 1.0, "mcc_stderr,none": 0.0, "bleu,none": 3.0,
              "bleu_stderr,none": 0.0, "f1,none": 88.0, "f1_stderr,none": 1.0}  # fmt: skip
    one = _ability("sst2", result, True, 100)
    assert one.ranges == {"acc": (0.0, 1.0), "mcc": (-1.0, 1.0)}  # this F1 is in per cent
    assert one.stderr["acc"] == pytest.approx(1 / 102) and 0.01 < one.stderr["mcc"] < 0.03
    assert one.stderr["bleu"] == 0.0 and one.stderr["f1"] == 1.0
    measures = summarise([{"stage": "final", "edits": 1, "batch": 0, **one.row()}], {})["final"]["model"][
        "ability.sst2"
    ]
    assert measures["acc"]["low"] == pytest.approx(0.025**0.01) and measures["bleu"]["low"] is None
    assert 86 < measures["f1"]["low"] < 88 < measures["f1"]["high"] < 90


def test_curves_of_report_and_trackers():
    rows = [ability_row("before", 0, 1.0), ability_row("interim", 2, 0.75), ability_row("interim", 4, 0.5)]
    rows += [ability_row("final", 4, 0.5)]
    drawn = curves(rows)["interim"]
    assert (drawn["edits"], drawn["ability.pocket.recall"]) == ([0, 2, 4], [1.0, 0.75, 0.5])
    points = Curves({}).rows(rows)
    assert points == {edits: {"ability/pocket/recall": v} for edits, v in ((0, 1.0), (2, 0.75), (4, 0.5))}
    assert flat_summary(summarise(rows, {}), {})["final/ability/pocket/recall"] == 0.5


# -- through a run ----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(make, monkeypatch):
    """Do a run of four edits of a tiny model, one at a time, with a checkpoint after two."""
    monkeypatch.setattr(pocket_world, "KNOWN", 0.0)  # the tiny model knows nothing
    monkeypatch.setattr(pocket_world, "items", lambda facts: items(facts[:6]))
    stream = ["stream.edits=4", "stream.batch_size=1", "stream.evaluate_at=[2]"]
    protocol = ["protocol.metrics=[exact_match,agreement]", "protocol.stages=[final]", "ability=pocket"]

    def go(*overrides, results="results"):
        return single_run.run(make(*stream, *protocol, *overrides, results=results, method=["method=finetune"]))

    return go


def rows_of(folder):
    return [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]


def test_a_run_measures_ability_before_at_checkpoints_and_at_the_end(run, tmp_path):
    rows = [row for row in rows_of(run().folder) if row.get("of", "").startswith("ability.")]
    assert [(r["of"].removeprefix("ability."), r["stage"], r["edits"], r["batch"], r["n"]) for r in rows] == [
        ("pocket", "before", 0, -1, 6),
        ("pocket", "interim", 2, 1, 6),
        ("pocket", "final", 4, 3, 6),
    ]
    (row,) = collect(tmp_path / "results")
    assert row["baseline.ability.pocket.choice"] == rows[0]["scores"]["choice"]
    assert row["final.ability.pocket.choice"] == rows[2]["scores"]["choice"]
    assert row["final.ability.pocket.choice_n"] == 6
    assert row["final.ability.pocket.choice_low"] <= row["final.ability.pocket.choice"]


@pytest.mark.parametrize("crash_at", [0, 3])
def test_a_stopped_run_neither_doubles_rows_nor_measures_again(run, monkeypatch, crash_at):
    whole = rows_of(run(results="whole").folder)
    monkeypatch.setattr("editbench.checkpoint.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("editbench.checkpoint.COST_FACTOR", 0.0)
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


def test_a_checkpoint_at_the_end_is_measured_once(run, monkeypatch):
    measured = []
    monkeypatch.setattr(
        PocketAbility, "measure", lambda *_: measured.append(0) or [Ability("pocket", {"recall": 1.0}, {}, 1)]
    )
    rows = rows_of(run("stream.evaluate_at=[4]").folder)
    assert [r["stage"] for r in rows if r.get("of", "").startswith("ability.")] == ["before", "interim", "final"]
    assert len(measured) == 2


def test_nothing_is_measured_by_default(run):
    assert not any(row.get("of", "").startswith("ability.") for row in rows_of(run("ability=none").folder))


def test_what_is_wrong_is_said_before_a_run_begins(run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="unknown ability"):
        composing_module.check(["ability=nsee"])
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "editbench.evaluation.general_ability.base.find_spec",
        lambda name: None if name == "lm_eval" else find_spec(name),
    )
    with pytest.raises(ValueError, match=r'sst2, mrpc, .* pip install "editbench\[lm-eval\]"'):
        run("ability=nse")
    assert not (tmp_path / "results").exists()


def test_the_choices_are_what_they_say():
    chosen = {
        name: composing_module.compose([f"ability={name}"]).protocol.ability.tasks for name in conf_names("ability")
    }
    assert chosen == {"none": [], "pocket": ["pocket"], "nse": list(NSE_TASKS)}


# -- lm-eval ----------------------------------------------------------------------------------------------------------

FACTS = [record["requested_rewrite"] for record in dataset_files.counterfact()[:12]]
DOCS = [
    {
        "prompt": fact["prompt"].format(fact["subject"]) if "{}" in fact["prompt"] else fact["prompt"],
        "choices": [fact["target_new"]["str"], fact["target_true"]["str"]],
        "label": 1,
    }
    for fact in FACTS
]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A folder with tasks of every sort that lm-eval has, on a dozen facts of the pocket world."""
    folder = tmp_path_factory.mktemp("tasks")
    data = folder / "docs.jsonl"
    data.write_text("\n".join(json.dumps(doc) for doc in DOCS))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "doc_to_text": "{{prompt}}",
        "metadata": {"version": 1.0},
    }
    chooses = {
        **common,
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc"}],
    }
    says = {
        **common,
        "output_type": "generate_until",
        "doc_to_target": "{{choices[label]}}",
        "generation_kwargs": {"until": ["."], "max_gen_toks": 4},
        "metric_list": [{"metric": "exact_match"}],
        "filter_list": [{"name": "strip", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}],
    }
    several = {
        "facts": chooses,
        "norm": {**chooses, "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}, {"metric": "mcc"}]},
        "shots": {**chooses, "fewshot_split": "test", "num_fewshot": 1},
        "zero": {**chooses, "fewshot_split": "test", "num_fewshot": 0},
        "tagged": {**chooses, "tag": "some_facts"},
        "says": says,
        "rolling": {
            **common,
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{prompt}}",
            "metric_list": [{"metric": "word_perplexity"}],
        },
        "gone": {**chooses, "dataset_kwargs": {"data_files": {"test": str(folder / "nothing.jsonl")}}},
    }
    for name, task in several.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **task}))
    mean = {"group": "both", "task": ["facts", "norm"], "aggregate_metric_list": [{"metric": "acc"}]}
    (folder / "both.yaml").write_text(yaml.safe_dump(mean))
    return folder


@pytest.fixture(scope="module")
def harness(tasks):
    """A loaded test for tasks of this folder."""

    def loaded(*names, **settings):
        test = lm_eval_tasks(names, include_path=str(tasks), **settings)
        test.load()
        return test

    return loaded


def plain_loglikelihood(lm, prompt, continuation):
    """The oracle: one row, the whole model, no padding."""
    head = lm.tokenizer(prompt).input_ids
    whole = lm.tokenizer(prompt + continuation).input_ids
    assert whole[: len(head)] == head
    with torch.no_grad():
        log_p = lm.model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return sum(float(log_p[i - 1, whole[i]]) for i in range(len(head), len(whole)))


@needs_lm_eval
def test_choices_against_a_plain_oracle(harness, monkeypatch):
    """A model that is damaged until its choices differ from document to document."""
    lm = editbench.load_model("pocket")
    generator = torch.Generator().manual_seed(1)
    for parameter in lm.model.parameters():
        parameter.data += 0.7 * parameter.std() * torch.randn(parameter.shape, generator=generator)
    lls = np.array([[plain_loglikelihood(lm, doc["prompt"], f" {c}") for c in doc["choices"]] for doc in DOCS])
    lengths = np.array([[len(c) for c in doc["choices"]] for doc in DOCS])
    right = lls.argmax(1) == 1
    assert 0 < right.sum() < len(DOCS)
    monkeypatch.setattr("editbench.evaluation.general_ability.lm_eval.BOOTSTRAPS", 20)
    [found] = harness("norm").measure(lm)
    assert (found.test, found.n) == ("norm", len(DOCS))
    assert found.scores["acc"] == pytest.approx(right.mean())
    assert found.scores["acc_norm"] == pytest.approx(((lls / lengths).argmax(1) == 1).mean())
    assert found.stderr["acc"] == pytest.approx(right.std(ddof=1) / math.sqrt(len(DOCS)))
    assert math.isfinite(found.scores["mcc"]) and math.isfinite(found.stderr["mcc"])


@needs_lm_eval
def test_texts_and_generated_answers_against_a_plain_oracle(pocket, harness):
    tokenizer = pocket.tokenizer
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    total = 0.0
    for doc in DOCS:
        ids = torch.tensor([[first, *tokenizer(doc["prompt"]).input_ids]])
        with torch.no_grad():
            log_p = pocket.model(ids).logits[0].double().log_softmax(-1)
        total += float(log_p[:-1].gather(1, ids[0, 1:, None]).sum())
    rolling, says = harness("rolling", "says").measure(pocket)
    words = sum(len(doc["prompt"].split()) for doc in DOCS)
    assert rolling.scores["word_perplexity"] == pytest.approx(math.exp(-total / words), rel=1e-4)
    answers = pocket.generate([doc["prompt"] for doc in DOCS], max_new_tokens=4)
    right = [said.partition(".")[0].strip() == doc["choices"][1] for said, doc in zip(answers, DOCS, strict=True)]
    assert says.scores == {"exact_match.strip": sum(right) / len(DOCS)} and any(right)


@needs_lm_eval
def test_generated_answers_take_nothing_from_the_models_own_settings(pocket, harness, monkeypatch):
    (before,) = harness("says").measure(pocket)
    own = {"begin_suppress_tokens": list(range(pocket.config.vocab_size - 1)), "repetition_penalty": 9.0}
    monkeypatch.setattr(pocket.model, "generation_config", transformers.GenerationConfig(**own))
    assert harness("says").measure(pocket) == [before]


@needs_lm_eval
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
def test_likelihoods_are_those_of_lm_evals_own_model(architecture):
    """Also where a context is too long, and where one token or several are scored."""
    from lm_eval.models.huggingface import HFLM

    from editbench.evaluation.general_ability.lm_eval import EditedLM

    lm = tiny_lm(architecture, bos=True)
    texts = ["The mother tongue of", "Toko Yasuda plays the guitar, and " * 20, "Apple", "Apple"]
    ends = [" French", " Autonomous University of Madrid", " A5", " is produced by Apple"]
    ours = EditedLM(lm)
    theirs = HFLM(pretrained=lm.model, tokenizer=copy.deepcopy(lm.tokenizer), max_length=lm.max_length)
    requests = [((a, b), *theirs._encode_pair(a, b)) for a, b in zip(texts, ends, strict=True)]
    assert max(len(context) for _, context, _ in requests) > lm.max_length
    for mine, yours in zip(
        ours._loglikelihood_tokens(requests), theirs._loglikelihood_tokens(requests, disable_tqdm=True), strict=True
    ):
        assert mine == (pytest.approx(yours[0], rel=1e-5), bool(yours[1]))
    with pytest.raises(ValueError, match="longer than the 128"):
        ours._loglikelihood_tokens([(("", "x"), [1], [2] * 129)])


@needs_lm_eval
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
def test_whole_texts_are_scored_as_by_lm_evals_own_model_and_routed_in_the_middle_of_each_window(architecture):
    from types import SimpleNamespace

    from lm_eval.models.huggingface import HFLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    from editbench.evaluation.general_ability.lm_eval import EditedLM

    lm = tiny_lm(architecture, bos=True)
    texts = ["Toko Yasuda plays the guitar, and " * 40, "Toko Yasuda plays the guitar.", "A"]
    theirs = HFLM(pretrained=lm.model, tokenizer=copy.deepcopy(lm.tokenizer), max_length=lm.max_length)
    bystander = Bystander()
    found = EditedLM(lm, bystander).loglikelihood_rolling([SimpleNamespace(args=(text,)) for text in texts])
    counts, columns = [], []
    for text, mine in zip(texts, found, strict=True):
        ids, total = theirs.tok_encode(text), 0.0
        windows = get_rolling_token_windows(ids, theirs.prefix_token_id, lm.max_length, 1)
        counts.append(0)
        for context, window in map(make_disjoint_window, windows):
            counts[-1] += 1
            middle = len(window) // 2
            [(log_p, _)] = theirs._loglikelihood_tokens([(None, context, window)], disable_tqdm=True)
            total += log_p
            columns.append(len(context) + middle - 1)
        assert mine == pytest.approx(total, rel=1e-5)
    assert counts[0] > 2 and counts[1:] == [1, 1]
    assert sorted(column for several in bystander.columns for column in several) == sorted(columns)


@needs_lm_eval
def test_every_sort_of_task_goes_through_the_editor_and_leaves_no_trace(pocket, harness):
    test, bystander, before = harness("facts", "says", "rolling"), Bystander(), state_of(pocket)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    own = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    found = test.measure(pocket, bystander)
    assert [one.test for one in found] == ["facts", "says", "rolling"]
    assert found[0].scores == {"acc": 1.0} and found[2].scores["word_perplexity"] > 1
    *short, last = bystander.columns
    assert sum(map(len, short[:2])) == len(DOCS) + 8  # the two choices of a document share a row; 8 that generate
    ends = {len(pocket.tokenizer(doc["prompt"]).input_ids) // 2 for doc in DOCS}
    assert {column for columns in (*short[3:], last) for column in columns} == ends  # half a text, and what starts it
    assert random.getstate() == own[0] and np.random.get_state()[1].tolist() == own[1]
    assert torch.equal(torch.get_rng_state(), own[2])
    assert test.measure(pocket) == found  # again, and without an editor
    assert_untouched(pocket, before)
    assert test.about()["tasks"] == {"facts": "1.0", "says": "1.0", "rolling": "1.0"}


@needs_lm_eval
def test_scen_answers_edited(pocket, harness):
    """Its edits lie beside the weights: only the editor makes the model give the new answers."""
    before = state_of(pocket)
    editor = editbench.make_editor(
        *("scen", pocket), layer=1, learning_rate=0.002, expert_steps=15, neuron_learning_rate=0.05, neuron_steps=60
    )
    records = editbench.load_records("counterfact", "pocket").records[: len(DOCS)]
    assert [record.request.prompt for record in records] == [doc["prompt"] for doc in DOCS]
    editor.edit([record.request for record in records])
    right = []
    for doc in DOCS:
        with_choice = []
        for choice in doc["choices"]:
            with editor.answering([len(pocket.encode(doc["prompt"]).ids) - 1]):
                with_choice.append(plain_loglikelihood(pocket, doc["prompt"], f" {choice}"))
        right.append(with_choice[1] > with_choice[0])
    chosen, said = harness("facts", "says").measure(pocket, editor)
    assert chosen.scores["acc"] == sum(right) / len(DOCS) <= 0.25  # the label is the old answer
    assert said.scores["exact_match.strip"] <= 0.25
    assert [one.scores for one in harness("facts", "says").measure(pocket)] == [
        {"acc": 1.0},
        {"exact_match.strip": 1.0},
    ]
    assert_untouched(pocket, before)


@needs_lm_eval
def test_groups_tags_limits_and_shots(pocket, harness):
    both, tagged = harness("both", "some_facts", limit=5).measure(pocket)
    assert (both.test, both.n, both.scores) == ("both", 10, {"acc": 1.0})
    assert (tagged.test, tagged.n) == ("tagged", 5)

    def contexts(test):
        test.measure(pocket)
        [loaded] = test._loaded.values()
        [task] = loaded["tasks"].values()
        return [instance.args[0] for instance in task.instances]

    one = contexts(harness("shots", seed=3))
    assert all(context.count("\n\n") == 1 for context in one)
    assert contexts(harness("shots", seed=3)) == one != contexts(harness("shots", seed=4))
    again = harness("shots", seed=3)
    assert contexts(again) == contexts(again) == one  # a second checkpoint sees the same examples
    assert all(context.count("\n\n") == 2 for context in contexts(harness("shots", num_fewshot=2)))
    assert not any("\n\n" in context for context in contexts(harness("zero", num_fewshot=2)))  # the task demands none


@needs_lm_eval
def test_a_model_that_gives_no_numbers_has_no_score(harness):
    lm = tiny_lm("llama")
    lm.weight(lm.mlp_out_name(0))[0, 0] = math.nan
    facts, rolling = harness("facts", "rolling").measure(lm)
    assert math.isnan(facts.scores["acc"]) and math.isnan(rolling.scores["word_perplexity"])
    assert facts.n == len(DOCS)


@needs_lm_eval
def test_errors_name_the_task(harness, tasks):
    with pytest.raises(ValueError, match="ability test 'gone': its data cannot be loaded"):
        harness("gone")
    with pytest.raises(ValueError, match="there is no folder"):
        lm_eval_tasks(["facts"], include_path=str(tasks / "nowhere"))
    for wrong in ({"limit": 0}, {"num_fewshot": -1}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=f"protocol.ability.{next(iter(wrong))} is"):
            lm_eval_tasks(["facts"], include_path=str(tasks), **wrong)


@needs_lm_eval
def test_lm_eval_has_the_six_tasks_and_knows_near_names(monkeypatch):
    import lm_eval.tasks

    from editbench.evaluation.general_ability import lm_eval

    home = Path(lm_eval.tasks.__file__).parent
    some = lm_eval.tasks.TaskManager(include_path=[home / "glue", home / "mmlu" / "default"], include_defaults=False)
    monkeypatch.setattr(lm_eval, "_manager", lambda *_: some)  # the index of all 14,000 takes seconds
    lm_eval_tasks(NSE_TASKS)
    with pytest.raises(ValueError, match=r"unknown ability test 'sst22'; did you mean 'sst2'\?"):
        lm_eval_tasks(["sst22"])
    with pytest.raises(ValueError, match="unknown ability test 'pockett'; did you mean 'pocket'"):
        lm_eval_tasks(["pockett"])
    with pytest.raises(ValueError, match="unknown ability test 'zzzzzzzz'; known: cola, mmlu, mnli"):
        lm_eval_tasks(["zzzzzzzz"])


@needs_lm_eval
def test_a_run_measures_lm_evals_tasks_too(run, tasks, tmp_path):
    folder = run("protocol.ability.tasks=[facts,pocket]", f"protocol.ability.include_path={tasks}").folder
    rows = [row for row in rows_of(folder) if row.get("of", "").startswith("ability.")]
    assert [(r["of"].removeprefix("ability."), r["stage"]) for r in rows] == [
        (test, stage) for stage in ("before", "interim", "final") for test in ("pocket", "facts")
    ]
    provenance = json.loads((folder / "run.json").read_text())["provenance"]
    assert provenance["ability"]["tasks"] == {"facts": "1.0"} and provenance["ability"]["lm_eval"]
    (row,) = collect(tmp_path / "results")
    assert 0 <= row["baseline.ability.facts.acc"] <= 1 and row["final.ability.facts.acc_n"] == len(DOCS)


@needs_lm_eval
def test_data_that_is_not_there_is_said_before_the_first_edit(run, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "editbench.model.language_model.load_model", lambda *_, **__: pytest.fail("the model was loaded")
    )
    with pytest.raises(ValueError, match="ability test 'gone'"):
        run("protocol.ability.tasks=[gone]", f"protocol.ability.include_path={tasks}")
    (row,) = collect(tmp_path / "results")
    assert row["status"] == "failed" and "'gone'" in row["reason"]

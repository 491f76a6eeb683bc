"""Tasks of lm-eval on a model in memory, edited or not."""

import copy
import importlib.util
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import yaml

import editbench
from editbench.evaluation.general_ability import NSE_TASKS, lm_eval_tasks
from editbench.pocket import dataset_files
from editbench.results.leaderboard import collect
from tests.evaluation.examples import Bystander, PromptEditor
from tests.evaluation.general_ability.states import assert_untouched, rows_of, state_of
from tests.tiny_models import tiny_lm

pytestmark = pytest.mark.slow
needs_lm_eval = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed")


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
    right = [text.partition(".")[0].strip() == doc["choices"][1] for text, doc in zip(answers, DOCS, strict=True)]
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
        *("scen", pocket), layer=4, learning_rate=0.002, expert_steps=15, neuron_learning_rate=0.05, neuron_steps=60
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
    chosen, generated = harness("facts", "says").measure(pocket, editor)
    assert chosen.scores["acc"] == sum(right) / len(DOCS) <= 0.25  # the label is the old answer
    assert generated.scores["exact_match.strip"] <= 0.25
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
def test_errors_name_the_task(harness, tasks, monkeypatch):
    monkeypatch.setenv("HOME", str(tasks))
    with pytest.raises(ValueError, match="ability test 'gone': its data cannot be loaded"):
        harness("gone")
    with pytest.raises(ValueError, match=f"there is no folder {tasks / 'nowhere'}"):
        lm_eval_tasks(["facts"], include_path="~/nowhere")
    for wrong in ({"limit": 0}, {"num_fewshot": -1}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=f"protocol.ability.{next(iter(wrong))} is"):
            lm_eval_tasks(["facts"], include_path=str(tasks), **wrong)


@needs_lm_eval
def test_lm_eval_has_the_six_tasks_and_knows_near_names(monkeypatch):
    import lm_eval.tasks

    from editbench.evaluation.general_ability import lm_eval as lm_eval_module

    home = Path(lm_eval.tasks.__file__).parent
    some = lm_eval.tasks.TaskManager(include_path=[home / "glue", home / "mmlu" / "default"], include_defaults=False)
    monkeypatch.setattr(lm_eval_module, "_manager", lambda *_: some)  # the index of all 14,000 takes seconds
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
    assert 0 <= row["before.ability.facts.acc"] <= 1 and row["final.ability.facts.acc_n"] == len(DOCS)


@needs_lm_eval
def test_data_that_is_not_there_is_said_before_the_first_edit(run, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "editbench.model.language_model.load_model", lambda *_, **__: pytest.fail("the model was loaded")
    )
    with pytest.raises(ValueError, match="ability test 'gone'"):
        run("protocol.ability.tasks=[gone]", f"protocol.ability.include_path={tasks}")
    (row,) = collect(tmp_path / "results")
    assert row["status"] == "failed" and "'gone'" in row["reason"]


@needs_lm_eval
@pytest.mark.parametrize("bos", [False, True])
def test_requests_are_asked_behind_an_editors_text(bos):
    """Contexts, choices without a context, whole texts in one window or several, and generated answers."""
    from lm_eval.api.instance import Instance

    from editbench.evaluation.general_ability.lm_eval import EditedLM

    def instances(kind, *arguments):
        return [Instance(request_type=kind, doc={}, arguments=several, idx=0) for several in arguments]

    lm, editor = tiny_lm("llama", "float64", bos=bos), PromptEditor()
    plain, edited = EditedLM(lm), EditedLM(lm, editor)
    asked = [("Rome is in", " Spain"), ("Paris", " French")]
    behind = [(editor.asked(context), end) for context, end in asked]
    one = edited.loglikelihood(requests := instances("loglikelihood", *asked))
    assert one == plain.loglikelihood(instances("loglikelihood", *behind))
    assert [request.args for request in requests] == asked  # lm-eval's own requests stay
    options = {"until": ["."], "max_gen_toks": 4}
    assert edited.generate_until(instances("generate_until", *((a, options) for a, _ in asked))) == (
        plain.generate_until(instances("generate_until", *((a, options) for a, _ in behind)))
    )

    def by_hand(ids, scored):
        log_p = lm.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return sum(float(log_p[i - 1, ids[i]]) for i in range(len(ids) - scored, len(ids)))

    first, front = edited.prefix_token_id, edited.tok_encode(editor.FRONT, add_special_tokens=False)
    text = "Toko Yasuda plays the guitar."
    own = edited.tok_encode(text, add_special_tokens=False)
    ((choice, _),) = edited.loglikelihood(instances("loglikelihood", ("", text)))
    assert choice == pytest.approx(by_hand([first, *front, *own], len(own)))
    whole = edited.tok_encode(text)
    (rolling,) = edited.loglikelihood_rolling(instances("loglikelihood_rolling", (text,)))
    if not bos:  # else the text's own BOS is scored behind lm-eval's, as lm-eval does it
        assert rolling == pytest.approx(by_hand([first, *front, *whole], len(whole)))
    long = "Toko Yasuda plays the guitar, and " * 40
    several = instances("loglikelihood_rolling", (long,))  # in windows of the full length
    assert edited.loglikelihood_rolling(several) == plain.loglikelihood_rolling(several)

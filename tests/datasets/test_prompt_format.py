"""Prompt formats belong to the dataset or the protocol: methods train on the very prompts that are asked."""

import json
from dataclasses import replace
from functools import partial

import pytest

from editbench import Resources, datasets, make_editor, single_run
from editbench import compose as composing_module
from editbench.locate_then_edit.prompts import rewriting_rows, target_ids
from editbench.methods.scen import SCEN
from editbench.model.likelihood import score_pairs
from editbench.model.packed_targets import Pair
from editbench.records import PromptFormat
from editbench.registry import load_method
from tests.small_runs import REQUESTS, SETTINGS, WRITERS, editor_of
from tests.tiny_models import tiny_lm

FORMAT = PromptFormat("[INST]", "[/INST]")
TRAINING = [method for method in WRITERS if hasattr(load_method(method).config_class, "train_eos")]
FORMATTED = [replace(r, prompt=FORMAT.apply(r.prompt)) for r in REQUESTS]


# -- what is trained ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", WRITERS)
def test_a_method_trains_on_the_prompt_and_the_target_that_are_asked(method, monkeypatch):
    lm = tiny_lm("llama")
    editor, request = editor_of(method, lm), FORMATTED[1]
    encode, continuation = lm.encode, lm.continuation
    texts, targets = [], []
    monkeypatch.setattr(lm, "encode", lambda text: texts.append(text) or encode(text))
    monkeypatch.setattr(lm, "continuation", lambda text, *spaced: targets.append(text) or continuation(text, *spaced))
    assert editor.edit([request]).applied == [request.id]
    asked = {text for text in texts if REQUESTS[1].prompt in text}
    assert request.prompt in asked
    assert all(text.endswith(request.prompt) and text.count("[INST]") == 1 for text in asked)  # before it: templates
    assert set(targets) <= {request.target, request.target_true}  # tokenised as every metric does, and in no other way
    assert request.target in targets
    assert not any(request.target in text for text in texts)


LARGER = {"mend": {"learning_rate": 0.1}}  # a small step divides its effect among the tokens


@pytest.mark.parametrize("method", TRAINING)
def test_the_closing_eos_is_trained_where_asked(method, monkeypatch):
    """The answer with its EOS becomes likelier than when it is trained without."""
    losses = {}
    for train_eos in (False, True):
        lm = tiny_lm("llama")
        monkeypatch.setitem(SETTINGS, method, {**SETTINGS[method], **LARGER.get(method, {}), "train_eos": train_eos})
        editor = editor_of(method, lm)
        result = editor.edit(REQUESTS[:1])
        closed = (*lm.continuation(REQUESTS[0].target), lm.tokenizer.eos_token_id)
        pair = Pair(tuple(lm.encode(REQUESTS[0].prompt).ids), closed)
        (losses[train_eos],) = (one.nll for one in score_pairs(lm, [pair], editor=editor))
        assert result.losses[REQUESTS[0].id]
    assert losses[True] < losses[False]


def test_the_closing_eos_is_off_by_default_and_behind_the_target():
    lm, request = tiny_lm("llama"), REQUESTS[1]
    plain = lm.continuation(request.target)
    closed = [*plain, lm.tokenizer.eos_token_id]
    assert target_ids(lm, request, False) == plain
    assert target_ids(lm, request, True) == closed
    (row,) = rewriting_rows(lm, request, ["{}"], train_eos=True)
    assert list(row.targets) == closed and list(row.ids) == [*lm.encode(request.prompt).ids, *plain]
    for method in TRAINING:
        assert editor_of(method, lm).config.train_eos is False


@pytest.mark.parametrize("method", TRAINING)
def test_a_tokenizer_without_eos_is_refused_before_the_first_edit(method):
    lm = tiny_lm("llama")
    lm.tokenizer.eos_token = None
    with pytest.raises(ValueError, match="train_eos is set, but the tokenizer of"):
        make_editor(method, lm, **SETTINGS[method], train_eos=True)
    make_editor(method, lm, **SETTINGS[method])


def test_prompts_of_a_methods_own_are_formatted_as_the_requests_are():
    plain = ["Google works with", "Apple A5 is produced by"]
    lm = tiny_lm("llama")
    editor = make_editor(
        "scen",
        lm,
        layer=1,
        negatives=plain,
        resources=Resources(prompt_format=FORMAT),
        neuron_steps=60,
    )
    bare = make_editor("scen", lm, layer=1, negatives=plain, neuron_steps=60)
    for one in (editor, bare):
        one.edit(FORMATTED[:1])
    formatted = [FORMAT.apply(prompt) for prompt in plain]
    assert editor.activations(formatted).max() < bare.activations(formatted).max()
    assert editor.inputs(formatted).equal(editor._generic_inputs())


# -- what is asked -----------------------------------------------------------------------------------------------------


def test_every_prompt_of_a_dataset_is_formatted(tmp_path):
    """Edits, probes, unrelated questions, free text, and the text before a sentence; text without a prompt is no
    question."""
    read = partial(datasets.load, "counterfact", "pocket", limit=2, unrelated_path="pocket")
    plain, formatted = read(), read(prompt_format="[INST]{}[/INST]")
    assert (plain.prompt_format, formatted.prompt_format) == (PromptFormat(), FORMAT)
    assert _prompts(formatted) == [FORMAT.apply(prompt) for prompt in _prompts(plain)]
    assert formatted.texts["plain"] == plain.texts["plain"] and not any(p.prompt for p in plain.texts["plain"])
    assert plain.fingerprint != formatted.fingerprint


def _prompts(loaded):
    kinds = [record.request for record in loaded.records] + [p for record in loaded.records for p in record.probes]
    kinds += [*loaded.unrelated, *loaded.texts["accurate"]]
    free_texts = [prompt for record in loaded.records for prompt in record.free_text.prompts]
    assert free_texts
    return [one.prompt for one in kinds] + free_texts


# -- from the command line ---------------------------------------------------------------------------------------------


def rows_of(folder):
    return [json.loads(line) for line in (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["scen", "default"])
def test_scen_answers_what_it_was_trained_on(protocol, tmp_path):
    """Under both protocols, with the method's settings as they stand: the right expert answers, with the target."""
    metrics = "protocol.metrics=[generation_exact,generation_agreement,exact_match,agreement,routing]"
    where = [f"results.dir={tmp_path / 'results'}", f"cache={tmp_path / 'cache'}", "protocol.max_tokens=16"]
    dataset = ["dataset=zsre", "stream.edits=5", "stream.order=file", "protocol.stages=[final]"]
    outcome = single_run.run(
        composing_module.compose(["method=scen", f"protocol={protocol}", metrics, *dataset, *where])
    )
    scored = [row["scores"] for row in rows_of(outcome.folder) if "record" in row]
    assert len(scored) == 5
    for scores in scored:
        assert scores["rewrite.routing"] == scores["rewrite.generation_exact"] == scores["rewrite.exact_match"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["scen", "default"])
def test_a_run_formats_the_negatives_as_its_questions(protocol, tmp_path, monkeypatch):
    lm = tiny_lm("llama")
    lm.model.save_pretrained(tmp_path / "tiny")
    lm.tokenizer.save_pretrained(tmp_path / "tiny")
    seen, inputs = [], SCEN.inputs
    monkeypatch.setattr(SCEN, "inputs", lambda self, texts: seen.extend(texts) or inputs(self, texts))
    model = [
        f"model.path={tmp_path / 'tiny'}",
        "method.layer=1",
        f"cache={tmp_path / 'cache'}",
        "protocol.max_tokens=8",
    ]
    given = [
        f"protocol={protocol}",
        "dataset=zsre",
        "stream.edits=1",
        "protocol.metrics=[token_accuracy,exact_match,agreement,generation_exact]",
    ]
    given += ["protocol.headline={}", "method.negatives=[Google works,Apple A5 is]", f"results.dir={tmp_path}"]
    single_run.run(composing_module.compose(["method=scen", *model, *given]))
    plain = ["Google works", "Apple A5 is"]
    assert seen == ([FORMAT.apply(prompt) for prompt in plain] if protocol == "scen" else plain)


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        ("method.prompt_format='x{}'", r"protocol\.data\.DATASET\.prompt_format"),
        ("method.answer_separator=x", "one space stands before every answer"),
    ],
)
def test_settings_that_were_the_methods_name_the_setting_of_today(setting, where):
    for given in (setting, f"+{setting}"):
        with pytest.raises(ValueError, match=where):
            single_run.load_records(composing_module.compose(["method=scen", given]))

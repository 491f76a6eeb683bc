"""``model.edited_dtype``: methods whose matrices are held in float32 within a model in half precision."""

import json

import pytest
import torch

from benchmarks import bench_precision
from editbench import Ledger, open_run, single_run
from editbench.edited_run.exports import export
from editbench.editor import Editor
from editbench.ledger import Dense, Transaction
from editbench.registry import load_method
from editbench.submission.verify import verify
from tests.finished_runs import claimed, places  # noqa: F401
from tests.small_runs import REQUESTS, SETTINGS, each, editor_of, logits, overrides_of, same, weights
from tests.test_editing_loop import comparable, make, tiny_folder  # noqa: F401
from tests.tiny_models import LINES, tiny_lm

HELD = ["model.dtype=bfloat16", "model.edited_dtype=float32"]
METHODS = [method for method in SETTINGS if load_method(method).kind == "weights"]


def holding(architecture="llama", dtype="bfloat16"):
    lm = tiny_lm(architecture, dtype)
    lm.edited_dtype = "float32"
    return lm


QUICK = ("finetune", "nse", "lora")


@pytest.mark.parametrize("method", each(METHODS, fast=QUICK))
def test_what_a_method_changes_is_held_and_nothing_else_and_rolled_back_to_the_bit(method, monkeypatch):
    lm = holding("gpt2")  # with biases
    given, apply = [], Transaction.apply
    monkeypatch.setattr(Transaction, "apply", lambda self, change: (given.append(change), apply(self, change))[1])
    editor = editor_of(method, lm)
    before, unedited = weights(lm), logits(editor)
    editor.edit(REQUESTS[:2])
    middle = weights(lm)
    changed = {change.weight for change in given if not change.weight.endswith(".bias")}  # which goes with its weight
    assert changed == set(editor.edited_weights()) == set(lm.held)
    in_float32 = {name.rpartition(".")[0] for name, tensor in middle.items() if tensor.dtype == torch.float32}
    assert in_float32 == {name.rpartition(".")[0] for name in lm.held}
    editor.edit(REQUESTS[2:])
    editor.ledger.rollback(keep=1)
    assert same(weights(lm), middle)
    editor.ledger.rollback()
    assert same(weights(lm), before) and torch.equal(logits(editor), unedited)


@pytest.mark.parametrize("method", each(METHODS, fast=QUICK))
def test_a_fresh_process_goes_on_to_the_bit(method, tmp_path):
    lms = holding(), holding()
    first = editor_of(method, lms[0], Ledger(lms[0], tmp_path))
    first.prepare(REQUESTS)
    first.edit(REQUESTS[:2])
    state = {k: v.clone() for k, v in first.state_beside_ledger().items()}
    second = editor_of(method, lms[1], Ledger(lms[1], tmp_path))
    second.prepare(REQUESTS)
    second.ledger.replay()
    second.recall(state)
    first.ledger._files = second.ledger._files = None
    for editor in (first, second):
        editor.edit(REQUESTS[2:])
    assert same(weights(lms[0]), weights(lms[1])) and torch.equal(logits(first), logits(second))


@pytest.mark.parametrize("method", ["grace", "scen", "retrieval", "unedited"])
def test_a_method_beside_the_weights_holds_nothing(method):
    lm = holding()
    editor = editor_of(method, lm)
    editor.edit(REQUESTS[:2])
    assert editor.edited_weights() == lm.held == []
    assert {parameter.dtype for parameter in lm.model.parameters()} == {torch.bfloat16}


def test_fine_tuning_in_float16_needs_a_matrix_in_float32():
    with pytest.raises(ValueError, match=r"every edit would become NaN; give model.edited_dtype=float32"):
        editor_of("finetune", tiny_lm("llama", "float16"))
    lm = tiny_lm("llama", "float16")
    lm.edited_dtype = "float32"
    editor = editor_of("finetune", lm)
    assert editor.edit(REQUESTS[:2]).applied == ["a", "b"] and lm.model.dtype == torch.float16


def test_changes_that_half_precision_rounds_away_stay():
    sums = {}
    for lm in (holding(), tiny_lm("llama", "bfloat16")):
        editor = editor_of("finetune", lm)
        name = lm.mlp_out_name(1)
        small = 1e-4 * lm.weight(name).float()
        for number in range(20):
            with editor.ledger.transaction([str(number)]) as transaction:
                transaction.apply(Dense(name, small))
        sums[lm.edited_dtype] = float(editor.ledger.delta(name).norm() / small.norm())
    assert sums["float32"] == pytest.approx(20, rel=1e-2) and sums[None] == 0.0


def test_the_setting_is_part_of_a_run_only_where_it_is_set(make):  # noqa: F811
    plain, same_again, set_to = make(), make("model.edited_dtype=null"), make(*HELD)
    assert "edited_dtype" not in plain.deciding()["model"] and plain.folder == same_again.folder
    assert set_to.deciding()["model"]["edited_dtype"] == "float32" and set_to.folder != make(HELD[0]).folder
    with pytest.raises(ValueError, match=r"model.edited_dtype is 'float16'; it must be one of 'float32'"):
        make("model.edited_dtype=float16")
    with pytest.raises(ValueError, match="narrower than model.dtype=float64"):
        make("model.dtype=float64", "model.edited_dtype=float32")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["finetune", "nse", "lora"])
def test_a_run_is_verified_opened_and_exported(claimed, places, tmp_path, method):  # noqa: F811
    import transformers

    run = claimed(method, *HELD)
    verdict = verify(run, 3, places=places)
    assert (verdict.status, verdict.reasons) == ("verified", [])
    opened = open_run(run)
    assert opened.lm.held == opened.editor.edited_weights()
    said = export(run, "checkpoint", tmp_path / "out")
    assert f"{len(opened.lm.held)} edited matrices are in float32 in it, the rest in bfloat16" in said
    wide = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    for name, parameter in opened.lm.model.named_parameters():
        assert torch.equal(wide.get_parameter(name), parameter.float())
    export(run, "ledger", tmp_path / "ledger")
    elsewhere = open_run(tmp_path / "ledger", model=places["model.path"])
    assert same(weights(elsewhere.lm), weights(opened.lm))


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_same_bits(make, monkeypatch):  # noqa: F811
    def run(results):
        stream = ["stream.edits=5", "stream.batch_size=2", *HELD]
        return single_run.run(make(*stream, settings=[], method=overrides_of("memit"), results=results)).folder

    whole, edit, calls = run("whole"), Editor.edit, []

    def stop(self, batch):
        calls.append(batch)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return edit(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr("editbench.editor.Editor.edit", stop)
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    assert comparable(run("stopped")) == comparable(whole)


def test_a_run_of_a_method_beside_the_weights_says_so(make, caplog):  # noqa: F811
    own = ["method=in_context", "method.layer=1"]
    single_run.run(make(*HELD, "stream.edits=2", method=own, settings=[]))
    assert "in_context adds nothing to weights: model.edited_dtype changes nothing" in caplog.text


@pytest.mark.slow
def test_the_benchmark_shows_what_rounding_takes(places, tmp_path, capsys):  # noqa: F811
    texts = tmp_path / "texts.json"
    texts.write_text(
        json.dumps([f"{start} {line}" for start in ("They say:", "So:", "Well,", "Here:") for line in LINES])
    )
    own = ["method.layer=1", "method.ridge=0.05", "method.steps=3", f"model.path={places['model.path']}"]
    given = ["--records", places["dataset.path"], "--texts", str(texts), "--model", "custom", "--methods", "rome"]
    rows = {row["precision"]: row for row in bench_precision.main([*given, "--edits", "4", "--batch", "2", *own])}
    assert list(rows) == list(bench_precision.PRECISIONS) and rows["float32"]["off"] == 0
    for half in ("bfloat16", "float16"):
        assert rows[half]["rounded"] > 1e-4 > 1e-5 > rows[f"{half}+float32"]["rounded"]
    assert capsys.readouterr().out.count("| rome |") == 5

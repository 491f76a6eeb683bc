"""A model that is split over two devices gives the same edits, scores and memories as on one, to the bit.

The devices are faked (`tests.fake_devices`): a tensor on the wrong one is an error, as on two GPUs.
"""

import math

import pytest
import torch

from editbench import single_run
from editbench.editor import Editor
from editbench.layer_search.causal_tracing import trace
from editbench.locate_then_edit import covariance
from editbench.locate_then_edit.covariance import compute_covariance
from editbench.model import devices
from tests.fake_devices import FIRST, HOST, SECOND, fake_devices, split, split_model
from tests.layer_search.plain_trace import SETTINGS as TRACED
from tests.layer_search.plain_trace import knowing
from tests.small_runs import REQUESTS, SETTINGS, each, editor_of, logits, overrides_of, same, save_model, weights
from tests.test_editing_loop import comparable, lines, make  # noqa: F401
from tests.tiny_models import LINES, tiny_lm

MAIN = ("rome", "memit", "nse", "scen")
STREAM = ["stream.edits=4", "stream.batch_size=2", "protocol.stages=[immediate,final]"]
REMEMBERING = {"lora": ["method.dropout=0.2"], "finetune": ["method.replay=2", "method.ewc=100.0"]}
"""By method: settings that bring its memory and its random numbers into play."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A tiny Llama in a folder; the fixture `make` composes runs of it."""
    return save_model(tiny_lm("llama"), tmp_path_factory.mktemp("model") / "tiny")


def needs_peft(method):
    if method == "lora":
        pytest.importorskip("peft", reason="peft is not installed")


def edited(method, lm):
    """Logits before, between and after the edits, and the weights then; the edits are rolled back on the way."""
    editor = editor_of(method, lm)
    found = [logits(editor)]
    editor.prepare(REQUESTS)
    for batch in (REQUESTS[:2], REQUESTS[2:]):
        editor.edit(batch)
        found.append(logits(editor))
    after = {name: tensor.cpu() for name, tensor in weights(lm).items()}
    editor.ledger.rollback(keep=1)
    assert torch.equal(logits(editor), found[1])
    editor.ledger.rollback()
    assert torch.equal(logits(editor), found[0])
    return torch.stack(found), after


@pytest.mark.parametrize("method", each(SETTINGS, fast=MAIN))
def test_edits_on_two_devices_have_the_bits_of_one(method):
    needs_peft(method)
    lm, whole = tiny_lm("llama"), tiny_lm("llama")
    with fake_devices():
        there = split(lm)
        assert (there.device, there.device_of(there.layers[1])) == (FIRST, SECOND)
        assert there.runs_trees and there.architecture == whole.architecture  # what a probe finds, and falls back from
        (answers, after), (on_one, after_one) = edited(method, there), edited(method, whole)
    assert torch.equal(answers, on_one) and same(after, after_one)
    assert method == "unedited" or not torch.equal(answers[0], answers[2])


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("method", each(SETTINGS, fast=()))
def test_wherever_the_model_is_split(method, first):
    needs_peft(method)
    lm, whole = tiny_lm("llama"), tiny_lm("llama")
    with fake_devices():
        (answers, after), (on_one, after_one) = edited(method, split(lm, first)), edited(method, whole)
    assert torch.equal(answers, on_one) and same(after, after_one)


@pytest.mark.slow
@pytest.mark.parametrize("method", SETTINGS)
def test_a_run_on_two_devices_stops_and_goes_on_with_the_bits_of_one(make, monkeypatch, tmp_path, method):  # noqa: F811
    """Scores, records and ledger of a stopped and resumed run on two devices are those of a whole run on one."""
    needs_peft(method)
    monkeypatch.setattr("editbench.checkpoint.MIN_INTERVAL", 0.0)
    monkeypatch.setattr("editbench.checkpoint.MAX_SHARE", math.inf)

    def run(results):
        settings = [*overrides_of(method)[:-1], *REMEMBERING.get(method, [])]  # with the protocol's own metrics
        own_cache = f"cache={tmp_path / 'cache' / results}"
        return single_run.run(make(*STREAM, own_cache, settings=settings, method=[], results=results)).folder

    with fake_devices():
        whole = run("whole")
        monkeypatch.setattr("editbench.model.language_model.load_pretrained", split_when_loaded())
        with monkeypatch.context() as patch:
            stop_at_second_edit(patch)
            with pytest.raises(KeyboardInterrupt):
                run("split")
        resumed = run("split")
    assert comparable(resumed) == comparable(whole)
    assert batches(resumed) == batches(whole)


def split_when_loaded():
    from editbench.model.language_model import load_pretrained

    def load(*args):
        model, tokenizer = load_pretrained(*args)
        return split_model(model), tokenizer

    return load


def stop_at_second_edit(patch):
    edit, calls = Editor.edit, []

    def stop(self, batch):
        calls.append(batch)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return edit(self, batch)

    patch.setattr(Editor, "edit", stop)


def batches(folder):
    return [line["digest"] for line in lines(folder, "ledger/index.jsonl") if "batch" in line]


@pytest.mark.parametrize("method", each(["rome", "memit", "alphaedit", "prune", "nse"], fast=("rome",)))
def test_systems_that_have_no_room_on_a_device_are_solved_in_main_memory(monkeypatch, method):
    """What is computed elsewhere may differ in its last bits."""
    monkeypatch.setattr(devices, "free_bytes", lambda device: 1000)
    lm, whole = tiny_lm("llama"), tiny_lm("llama")
    with fake_devices():
        editors = [editor_of(method, one) for one in (split(lm), whole)]
        for editor in editors:
            editor.edit(REQUESTS)
            editor.finish()
        kept = [editors[0]._factor] if method == "rome" else list(editors[0].memory.tensors())
        assert {tensor.device for tensor in kept} == {HOST}
        assert torch.allclose(logits(editors[0]), logits(editors[1]), rtol=1e-4, atol=1e-4)


def test_covariance_that_has_no_room_on_a_device_is_summed_in_main_memory(monkeypatch):
    lm, whole = tiny_lm("llama"), tiny_lm("llama")
    with fake_devices():
        there = split(lm)
        on_device = compute_covariance(there, LINES, [0, 1])
        monkeypatch.setattr(devices, "free_bytes", lambda device: 1000)
        monkeypatch.setattr(covariance, "MOVED_NUMBERS", 100)  # two rows at a time
        in_memory, on_one = compute_covariance(there, LINES, [0, 1]), compute_covariance(whole, LINES, [0, 1])
        assert [on_device[layer].device for layer in (0, 1)] == [FIRST, SECOND]
        assert [in_memory[layer].device for layer in (0, 1)] == [HOST, HOST]
        for layer in (0, 1):
            assert torch.equal(on_device[layer].cpu(), on_one[layer])
            assert torch.allclose(in_memory[layer], on_one[layer], rtol=1e-4, atol=1e-6)


def test_a_trace_on_two_devices_is_that_on_one():
    lm, whole = tiny_lm("llama"), tiny_lm("llama")
    with fake_devices():
        there, requests = split(lm), knowing(whole)
        there.continuation = whole.continuation
        assert trace(there, requests, settings=TRACED) == trace(whole, requests, settings=TRACED)

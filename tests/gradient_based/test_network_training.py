"""Training of networks: its gradient beside numeric ones, stops at any point, weights that come back, errors."""

import pytest
import torch

from editbench import EditRecord, Resources, make_editor
from editbench.files import read_tensors
from editbench.gradient_based import network_training
from editbench.gradient_based.network_files import key_of
from editbench.gradient_based.network_training import NetworkTraining
from editbench.gradient_based.training_examples import examples_of
from editbench.records import LOCALITY, PARAPHRASE, Probe
from tests.small_runs import REQUESTS, same, weights
from tests.tiny_models import tiny_lm

RECORDS = [
    EditRecord(r, (Probe(PARAPHRASE, f"They say: {r.prompt}", r.target), Probe(LOCALITY, "Rome is in", "Spain")))
    for r in REQUESTS
]
SETTINGS = {
    "mend": {"batch": 3, "epochs": 2},
    "rledit": {"group": 1, "sequence": 3, "back_depth": 2, "epochs": 2},
}
COMMON = {"layers": [0, 1], "network": "untrained", "rank": 2, "blocks": 1, "network_learning_rate": 1e-2}


def editor_of(method, dtype="float32", **settings):
    resources = Resources(load_training_records=lambda: RECORDS)
    settings = {**COMMON, "learning_rate": 1e-2, **SETTINGS[method], **settings}
    return make_editor(method, tiny_lm("gpt2", dtype), resources=resources, **settings)


def training_of(editor):
    return NetworkTraining(editor, examples_of(RECORDS, editor.own_prompt), editor.plan())


@pytest.mark.parametrize("method", list(SETTINGS))
def test_the_gradient_is_that_of_the_losses(method):
    """A parameter moved a little moves the loss by its gradient: central differences, in float64."""
    editor = editor_of(method, "float64", gradient_clip=1e9, learning_rate=0.1)
    for parameter in editor.network.parameters():
        parameter.data += 0.1 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1)).double()
    config, first = editor.config, weights(editor.lm)

    def loss():
        training = training_of(editor)
        losses = training.learn([training.group(0)])
        training._set(training._original)
        whole = config.edit_weight * losses["edit"] + config.locality_weight * losses["locality"]
        return whole / (training.plan.accumulate or 1)

    editor.network.zero_grad()
    loss()
    assert same(weights(editor.lm), first)
    found = {name: p.grad.clone() for name, p in editor.network.named_parameters()}
    for name, parameter in editor.network.named_parameters():
        place = int(found[name].abs().argmax())
        numbers, step = parameter.data.view(-1), 1e-5
        kept, values = numbers[place].clone(), []
        for sign in (1, -1):
            numbers[place] = kept + sign * step
            values.append(loss())
        numbers[place] = kept
        slope = (values[0] - values[1]) / (2 * step)
        assert float(found[name].view(-1)[place]) == pytest.approx(slope, rel=1e-3, abs=1e-7), name


@pytest.mark.parametrize("method", list(SETTINGS))
def test_a_training_that_is_stopped_anywhere_goes_on_with_the_same_bits(method, tmp_path, monkeypatch):
    whole = editor_of(method)
    first = weights(whole.lm)
    wanted = read_tensors(whole.train(tmp_path / "whole.safetensors"))
    assert same(weights(whole.lm), first) and not list(tmp_path.glob("partial*"))
    monkeypatch.setattr(network_training, "MIN_INTERVAL", 0.0)
    monkeypatch.setattr(network_training, "MAX_SHARE", float("inf"))
    own, calls = NetworkTraining.learn, []

    def stop(self, groups):
        calls.append(groups)
        if len(calls) % 3 == 0:  # each process comes two groups further
            raise KeyboardInterrupt
        return own(self, groups)

    monkeypatch.setattr(NetworkTraining, "learn", stop)
    stops, file = 0, tmp_path / "stopped.safetensors"
    while not file.exists():
        editor = editor_of(method)
        try:
            editor.train(file)
        except KeyboardInterrupt:
            stops += 1
        assert same(weights(editor.lm), first)
    found = read_tensors(file)
    assert stops == 3 and same(found[0], wanted[0])
    assert {**found[1], "seconds": 0} == {**wanted[1], "seconds": 0}


def test_a_damaged_state_is_named_and_begun_again(tmp_path):
    editor = editor_of("mend")
    editor.train(tmp_path / "a.safetensors")
    key = key_of(editor_of("mend")._deciding())
    (tmp_path / f"partial-{key}.safetensors").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="the saved training .* is damaged"):
        editor_of("mend").train(tmp_path / "b.safetensors")
    assert same(read_tensors(tmp_path / "a.safetensors")[0], read_tensors(tmp_path / "b.safetensors")[0])


def test_groups_sequences_and_steps(monkeypatch):
    """Weights stay within a sequence, and Adam steps at its end; earlier groups are asked again, the nearest first."""
    editor = editor_of("rledit")
    training, first, asked = training_of(editor), weights(editor.lm), []
    own = training.learn
    monkeypatch.setattr(training, "learn", lambda groups: asked.append(groups) or own(groups))
    clean, steps = [], []
    for _ in range(4):
        before = {name: p.detach().clone() for name, p in editor.network.named_parameters()}
        training._next(8)
        clean.append(same(weights(editor.lm), first))
        steps.append(any(not torch.equal(before[name], p) for name, p in editor.network.named_parameters()))
    assert clean == steps == [False, False, True, True]  # four groups in sequences of three and one
    assert [len(groups) for groups in asked] == [1, 2, 2, 1]
    assert asked[2] == [training.group(2), training.group(1)]
    assert training.history and set(training.history[0]) == {"edit", "locality"}


def test_each_epoch_has_all_examples_in_an_order_of_its_own():
    training = training_of(editor_of("mend"))
    epochs = [[training.group(4 * epoch + i) for i in range(4)] for epoch in range(2)]
    orders = [[group.edits[0].id for group in epoch] for epoch in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == ["a", "b", "c", "d"] and orders[0] != orders[1]
    asked = [{(g.edits[0].id, g.rewrites[0].prompt.startswith("They say")) for g in epoch} for epoch in epochs]
    assert asked[0] == {("a", False), ("b", True), ("c", False), ("d", True)}  # own prompts and paraphrases in turn
    assert asked[1] == {(id, not paraphrase) for id, paraphrase in asked[0]}


@pytest.mark.parametrize("clip", [1e9, 0.05])
def test_mends_step_is_the_mean_gradient_of_its_records_clipped_once(clip, monkeypatch):
    editor, alone = editor_of("mend", "float64", gradient_clip=clip), []
    for place in range(3):
        other = editor_of("mend", "float64", gradient_clip=1e9)
        training = training_of(other)
        training.learn([training.group(place)])
        alone.append(torch.cat([p.grad.flatten() for p in other.network.parameters() if p.grad is not None]))
    training, taken = training_of(editor), []

    def step():
        taken.append(torch.cat([p.grad.flatten() for p in editor.network.parameters() if p.grad is not None]))

    monkeypatch.setattr(training.adam, "step", step)
    for _ in range(4):
        training._next(4)
    mean = sum(alone)  # each is a third already
    wanted = mean * min(1.0, clip / float(mean.norm()))
    assert len(taken) == 2 and torch.allclose(taken[0], wanted, rtol=1e-5, atol=1e-12)
    assert float(mean.norm()) > 0.05


def test_records_without_anything_to_keep_are_refused_unless_locality_does_not_count(tmp_path):
    bare = Resources(load_training_records=lambda: [EditRecord(r) for r in REQUESTS])
    settings = {**COMMON, **SETTINGS["mend"]}
    with pytest.raises(ValueError, match="set method.locality_weight=0"):
        make_editor("mend", tiny_lm("gpt2"), resources=bare, **settings).train(tmp_path / "x.safetensors")
    make_editor("mend", tiny_lm("gpt2"), resources=bare, locality_weight=0.0, **settings).train(
        tmp_path / "x.safetensors"
    )
    assert (tmp_path / "x.safetensors").exists()


def test_the_regularisation_shrinks_the_change():
    """Its gradient is that of ‖ΔW‖², which the published code's has not: ΔW is proportional to the learning rate."""
    found = []
    for regularisation in (0.0, 10.0):
        editor = editor_of("rledit", "float64", regularisation=regularisation, gradient_clip=1e9)
        training = training_of(editor)
        training.learn([training.group(0)])
        found.append(sum(float(network.learning_rate.grad.sum()) for network in editor.network.shapes.values()))
        moved = [editor.lm.weight(weight) - was for weight, was in training._original.items()]
    squares = sum(float(change.square().sum()) for change in moved)
    assert found[1] - found[0] == pytest.approx(10.0 * 2 * squares / 1e-2, rel=1e-3)

"""Methods on a model whose device has no float64, as Apple's GPUs: simulated, and compared with the CPU.

Run by ``test_without_float64.py``, in a process of its own.
"""

import pytest
import torch

from editbench import Ledger, single_run
from editbench.layer_search.causal_tracing import trace
from editbench.model import devices, language_model
from editbench.model.likelihood import Query, score_targets
from tests.gradient_based.test_network_training import SETTINGS as NETWORKS
from tests.gradient_based.test_network_training import editor_of as network_editor
from tests.gradient_based.test_network_training import training_of
from tests.layer_search.plain_trace import SETTINGS as TRACING
from tests.layer_search.plain_trace import knowing
from tests.small_runs import PROMPTS, REQUESTS, SETTINGS, each, editor_of
from tests.test_editing_loop import lines, make, tiny_folder  # noqa: F401
from tests.tiny_models import tiny_lm
from tests.without_float64 import TYPE, on_device


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setattr(devices, "WITHOUT_FLOAT64", {TYPE})


def both(architecture="llama"):
    """The same model on the CPU and on the simulated device."""
    return tiny_lm(architecture), on_device(tiny_lm(architecture))


def edited(method, lm, folder):
    """NLL of two targets behind each prompt after edits that are in a ledger on disk, and again after its replay."""
    editor = editor_of(method, lm, Ledger(lm, folder))
    editor.prepare(REQUESTS)
    assert editor.edit(REQUESTS[:2]).applied == ["a", "b"]
    assert editor.edit(REQUESTS[2:]).applied == ["c", "d"]
    editor.finish()
    found, state, digest = answers(editor), editor.state_beside_ledger(), editor.ledger.digest()
    editor.ledger._restore(0)
    again = editor_of(method, lm, Ledger(lm, folder))
    again.ledger.replay()
    again.recall({name: tensor.cpu() for name, tensor in state.items()})
    assert again.ledger.digest() == digest and answers(again) == found
    return found


def answers(editor):
    scores = score_targets(editor.lm, [Query(prompt, ("English", "Rome")) for prompt in PROMPTS], editor=editor)
    return [score.nll for of_prompt in scores for score in of_prompt]


@pytest.mark.parametrize("method", each(SETTINGS, fast=("rome", "memit", "nse", "scen")))
def test_edits_are_those_of_the_cpu(method, tmp_path):
    cpu, gpu = (edited(method, lm, tmp_path / lm.device.type) for lm in both())
    assert gpu == pytest.approx(cpu, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "architecture"), [("memit", "gemma2"), ("pmet", "opt-post"), ("nse", "gpt2")])
def test_edits_behind_norms_and_of_transposed_weights_are_those_of_the_cpu(method, architecture, tmp_path):
    cpu, gpu = (edited(method, lm, tmp_path / lm.device.type) for lm in both(architecture))
    assert gpu == pytest.approx(cpu, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", NETWORKS)
def test_a_network_is_trained(method, monkeypatch):
    losses = []
    for lm in both("gpt2"):
        monkeypatch.setattr("tests.gradient_based.test_network_training.tiny_lm", lambda *_, lm=lm: lm)
        training = training_of(network_editor(method))
        losses.append(training.learn([training.group(0), training.group(1)]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


@pytest.mark.slow
def test_layers_are_traced():
    cpu_lm, gpu_lm = both()
    requests = knowing(cpu_lm)
    gpu_lm.continuation = cpu_lm.continuation
    cpu, gpu = (trace(lm, requests, settings=TRACING) for lm in (cpu_lm, gpu_lm))
    assert gpu.deviation == pytest.approx(cpu.deviation)
    for name, estimates in cpu.indirect.items():
        for one, other in zip(gpu.indirect[name], estimates, strict=True):
            assert one["mean"] == pytest.approx(other["mean"], abs=1e-5)


@pytest.mark.slow
def test_a_whole_run(make, monkeypatch):  # noqa: F811
    """With covariance, sampled templates, generated answers, perplexity and drift."""
    rows = []
    load = language_model.load_model
    for put in (lambda lm: lm, on_device):
        monkeypatch.setattr(language_model, "load_model", lambda config, put=put: put(load(config, device="cpu")))
        metrics = "protocol.metrics=[exact_match,agreement,generation]"
        folder = single_run.run(make(metrics, results=f"of-{len(rows)}")).folder
        rows.append([row for row in lines(folder, "scores.jsonl") if row["stage"] in ("before", "final")])
    assert len(rows[0]) == len(rows[1]) > 3
    for cpu, gpu in zip(*rows, strict=True):
        assert gpu["scores"] == pytest.approx(cpu["scores"], rel=1e-2, abs=1e-3)


def test_the_simulation_refuses_what_the_device_would():
    lm = on_device(tiny_lm("llama"))
    tensor = lm.weight(lm.mlp_out_name(0))
    assert torch.equal(tensor.cpu() * 2, (tensor * 2).cpu()) and tensor.device.type == TYPE
    for attempt in (
        lambda: tensor.double(),
        lambda: tensor.to("cpu", torch.float64),
        lambda: tensor.new_zeros(1, dtype=torch.float64),
        lambda: torch.zeros(1, dtype=torch.float64, device=tensor.device),
        lambda: torch.zeros(1, dtype=torch.float64).to(tensor.device),
        lambda: torch.zeros(tensor.shape, dtype=torch.float64).copy_(tensor),
    ):
        with pytest.raises(TypeError, match="float64"):
            attempt()
    with pytest.raises(RuntimeError, match="same device"):
        tensor @ torch.zeros(tensor.shape[1], 1)

"""ROME, MEMIT and NSE, whole, beside the plain way of doing the same; and their settings."""

import pytest
import torch
from safetensors.torch import load_file

from editbench import EditRequest, Resources, make_editor
from editbench.editor import Footprint
from editbench.locate_then_edit.prompts import subject_row
from editbench.locate_then_edit.shifted_forward import AT_LAYER
from editbench.locate_then_edit.values import optimise_values
from editbench.methods.nse.editor import select_neurons
from editbench.records import EditError
from tests.edits import TEMPLATES, Unreadable, edits
from tests.oracles import locate as oracle
from tests.zoo import tiny_lm

VALUE = {"steps": 4, "learning_rate": 0.1, "clamp_norm_factor": 0.6}
TINY_ARCHITECTURES = ("gpt2", "llama", "qwen3", "gptj", "gemma2", "opt-post")
LAYERS = [0, 1]


def covariance(lm):
    generator, out = torch.Generator().manual_seed(0), {}
    for layer in range(lm.n_layers):
        x = torch.randn(lm.d_ff(layer), 200, generator=generator, dtype=torch.float64)
        out[layer] = x @ x.T / 200
    return out


def make(method, lm, **settings):
    resources = Resources(templates=TEMPLATES, covariance=covariance(lm), **settings.pop("resources", {}))
    return make_editor(method, lm, resources=resources, **{**VALUE, **settings})


def agree(lm, other, layers, tolerance=1e-6):
    for layer in layers:
        ours, plain = (h.weight(h.mlp_out_name(layer)) for h in (lm, other))
        assert float((ours - plain).norm() / plain.norm()) < tolerance


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_rome(architecture):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    editor, inverse = make("rome", lm, layer=1), torch.linalg.inv(covariance(lm)[1])
    for request in edits(3):
        editor.edit([request])
        oracle.rome(other, request, TEMPLATES, inverse, editor.config)
    agree(lm, other, [1])


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_rome_without_moment_adjustment_needs_no_text(architecture, tmp_path):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    resources = Resources(templates=TEMPLATES, texts=Unreadable(), cache=tmp_path)
    editor = make_editor("rome", lm, resources=resources, layer=1, covariance_adjustment=False, **VALUE)
    editor.prepare(edits(3))
    for request in edits(3):
        editor.edit([request])
        oracle.rome(other, request, TEMPLATES, None, editor.config)
    agree(lm, other, [1])
    assert editor.footprint() == Footprint()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_memit(architecture):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    editor = make("memit", lm, layers=LAYERS, covariance_weight=2.0)
    for batch in (edits(6)[:4], edits(6)[4:]):
        editor.edit(batch)
        oracle.memit(other, batch, TEMPLATES, covariance(lm), editor.config)
    agree(lm, other, LAYERS)


@pytest.mark.parametrize("precompute", [True, False], ids=["ahead", "on demand"])
@pytest.mark.parametrize("threshold", [1.0, 0.7])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_nse(architecture, threshold, precompute):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    settings = {"alpha": 0.05, "upper_bound": 50.0, "max_iterations": 3, "neuron_threshold": threshold}
    editor, batches = make("nse", lm, layers=LAYERS, covariance_weight=2.0, **settings), [edits(6)[:4], edits(6)[4:]]
    if precompute:
        editor.prepare(edits(6))
    for batch in batches:
        result = editor.edit(batch)
        assert len(result.details["rounds"]) == 2

    def pick(keys):
        index = select_neurons(keys, threshold, "published")
        return torch.arange(len(keys)) if index is None else index

    oracle.nse(other, batches, TEMPLATES, covariance(lm), editor.config, pick)
    agree(lm, other, LAYERS)


# -- values are reached, also behind norms: by the whole model's own word ---------------------

NORMED = ("gemma2", "gemma3", "opt-post")


def distances(lm, requests, targets, layer):
    return (targets - oracle.hidden(lm, requests, layer)).norm(dim=0)


@pytest.mark.parametrize("layers", [[1], [0, 1]], ids=["one layer", "two layers"])
@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("architecture", ["llama", *NORMED])
def test_memit_reaches_its_values(architecture, count, layers):
    """With next to no C against it, and keys of the bare prompts alone, nothing but reach keeps H from Z."""
    lm, requests = tiny_lm(architecture, "float64", bos=True), edits(count)
    resources = {"templates": TEMPLATES[:1], "covariance": covariance(lm)}
    editor = make_editor("memit", lm, resources=Resources(**resources), layers=layers, covariance_weight=1e-6, **VALUE)
    values = optimise_values(lm, requests, TEMPLATES[:1], layers[-1], AT_LAYER, editor.config)
    targets = torch.stack([value.target for value in values], 1)
    begun = distances(lm, requests, targets, layers[-1])
    editor.edit(requests)
    assert bool((distances(lm, requests, targets, layers[-1]) < 0.01 * begun).all())


@pytest.mark.parametrize("layers", [[1], [0, 1]], ids=["one layer", "two layers"])
@pytest.mark.parametrize("architecture", ["llama", *NORMED])
def test_nse_reaches_its_values_in_every_batch(architecture, layers):
    """Values belong to the original weights; the second batch is written on those that the first has left."""
    lm, requests = tiny_lm(architecture, "float64", bos=True), edits(6)
    resources = Resources(templates=TEMPLATES[:1], covariance=covariance(lm))
    settings = {"alpha": 0.0, "upper_bound": 1e9, "max_iterations": 2, "memory": "none", "covariance_weight": 1e-6}
    editor = make_editor("nse", lm, resources=resources, layers=layers, **settings, **VALUE)
    editor.prepare(requests)
    for batch in (requests[:3], requests[3:]):
        targets = torch.stack([editor.values[r].target for r in batch], 1)
        begun = distances(lm, batch, targets, layers[-1])
        result = editor.edit(batch)
        assert result.details["rounds"][0]["distances"] == pytest.approx(begun.tolist(), rel=1e-5)
        assert bool((distances(lm, batch, targets, layers[-1]) < 0.01 * begun).all())


@pytest.mark.parametrize("layers", [[1, 2, 3, 4], [2, 4]], ids=["four", "apart"])
@pytest.mark.parametrize("architecture", NORMED)
def test_a_deep_model_reaches_its_values(architecture, layers):
    lm, requests = tiny_lm(architecture, "float64", bos=True, layers=6), edits(12)
    resources = Resources(templates=TEMPLATES[:1], covariance=covariance(lm))
    editor = make_editor("memit", lm, resources=resources, layers=layers, covariance_weight=1e-6, **VALUE)
    values = optimise_values(lm, requests, TEMPLATES[:1], layers[-1], AT_LAYER, editor.config)
    targets = torch.stack([value.target for value in values], 1)
    begun = distances(lm, requests, targets, layers[-1])
    editor.edit(requests)
    assert bool((distances(lm, requests, targets, layers[-1]) < 0.01 * begun).all())


@pytest.mark.parametrize(("key", "template"), [("published", 0), ("consistent", None)])
def test_rome_writes_its_value_at_the_bare_or_at_the_mean_key(key, template):
    lm = tiny_lm("gpt2", "float64")
    editor, request = make("rome", lm, layer=1, key=key), edits(1)[0]
    rows = [subject_row(lm, request, t) for t in TEMPLATES]
    keys = oracle.at_subject(lm, rows, lm.mlp_out(1), inputs=True)
    _, delta, *_ = oracle.value(lm, request, TEMPLATES, 1, "mlp", editor.config)
    editor.edit([request])
    at = keys.mean(0) if template is None else keys[template]
    assert torch.allclose(editor.ledger.delta(lm.mlp_out_name(1)) @ at, delta, rtol=1e-6)


# -- NSE's settings ---------------------


def test_selection_rules():
    keys = torch.tensor([[4.0], [-3.0], [2.0], [1.0]])
    assert select_neurons(keys, 0.69, "published").tolist() == [0]
    assert select_neurons(keys, 0.69, "smallest").tolist() == [0, 1]
    assert select_neurons(keys, 0.70, "published").tolist() == [0, 1]
    assert select_neurons(keys, 0.70, "smallest").tolist() == [0, 1]
    assert select_neurons(keys, 0.1, "published").tolist() == []
    assert select_neurons(keys, 1.0, "published") is None


@pytest.mark.parametrize(("memory", "columns"), [("all", 4), ("kept", 2), ("none", 0)])
def test_memory(memory, columns):
    lm = tiny_lm("gpt2")
    editor = make("nse", lm, layers=LAYERS, memory=memory, alpha=0.0, upper_bound=1e9)
    editor.prepare(edits(4))
    targets = torch.stack([editor.values[r].target for r in edits(4)], 1)
    distances = (targets - oracle.hidden(lm, edits(4), 1)).norm(dim=0).sort().values
    editor.config.alpha = float(distances[1:3].mean())  # two of four edits take part
    editor.edit(edits(4))
    assert [solver.keys.shape[1] for solver in editor.memory.key_solvers.values()] == [columns] * 2


def test_rolled_back_edits_are_forgotten():
    lm, settings = tiny_lm("gpt2"), {"layers": LAYERS, "alpha": 0.0, "upper_bound": 1e9}
    editor = make("nse", lm, **settings)
    editor.edit(edits(4)[:2])
    once = lm.weight(lm.mlp_out_name(1)).clone()
    editor.edit(edits(4)[2:])
    twice = lm.weight(lm.mlp_out_name(1)).clone()
    editor.ledger.rollback(1)
    assert torch.equal(lm.weight(lm.mlp_out_name(1)), once)
    editor.edit(edits(4)[2:])
    assert torch.equal(lm.weight(lm.mlp_out_name(1)), twice)


def test_memory_is_compacted_and_then_cannot_forget_single_batches():
    lm = tiny_lm("gpt2")  # d_ff is 48
    editor = make("nse", lm, layers=LAYERS, alpha=0.0, upper_bound=1e9, steps=1, weight_decay=0.0)
    sizes = []
    for start in range(0, 65, 13):
        editor.edit(edits(65)[start : start + 13])
        sizes.append(editor.memory.key_solvers[0].keys.shape[1])
    assert sizes == [13, 26, 39, 52, 13]
    assert editor.footprint().host > 0
    editor.ledger.rollback(2)
    with pytest.raises(EditError, match="restore the state"):
        editor.edit(edits(1))


def test_values_are_cached_on_disk(tmp_path):
    requests = edits(3)
    first = make("nse", tiny_lm("gpt2"), layers=LAYERS, resources={"cache": tmp_path})
    first.prepare(requests)
    files = sorted((tmp_path / "values").rglob("*.safetensors"))
    assert len(files) == 3
    second = make("nse", tiny_lm("gpt2"), layers=LAYERS, resources={"cache": tmp_path})
    before = [file.stat().st_mtime_ns for file in files]
    second.prepare([EditRequest("another id", r.prompt, r.subject, r.target) for r in requests])
    assert [file.stat().st_mtime_ns for file in files] == before
    assert all(torch.equal(first.values[r].target, second.values[r].target) for r in requests)
    assert all(first.values[r].losses == second.values[r].losses for r in requests)


@pytest.mark.parametrize(
    "change",
    [{"steps": 5}, {"kl_factor": 0.5}, {"layers": [0, 2]}, {"resources": {}}],
    ids=["steps", "kl", "layer", "same"],
)
def test_every_constant_is_part_of_the_cache_key(change, tmp_path):
    first = make("nse", tiny_lm("gpt2"), layers=LAYERS, resources={"cache": tmp_path})
    first.prepare(edits(1))
    settings = {**VALUE, "layers": LAYERS, **change}
    settings.pop("resources", None)
    resources = Resources(templates=TEMPLATES, covariance=covariance(tiny_lm("gpt2")), cache=tmp_path)
    make_editor("nse", tiny_lm("gpt2"), resources=resources, **settings).prepare(edits(1))
    assert len(list((tmp_path / "values").rglob("*.safetensors"))) == (1 if "resources" in change else 2)


def test_what_runs_the_model_is_part_of_the_cache_key(tmp_path):
    for attention in ("sdpa", "eager"):
        lm = tiny_lm("gpt2", attention=attention)
        make("nse", lm, layers=LAYERS, resources={"cache": tmp_path}).prepare(edits(1))
    assert len(list((tmp_path / "values").rglob("*.safetensors"))) == 2


def test_a_damaged_value_is_found_again(tmp_path):
    request = edits(1)
    first = make("nse", tiny_lm("gpt2"), layers=LAYERS, resources={"cache": tmp_path})
    first.prepare(request)
    (file,) = (tmp_path / "values").rglob("*.safetensors")
    whole, kept = file.read_bytes(), {name: tensor.clone() for name, tensor in load_file(file).items()}
    file.write_bytes(whole[: len(whole) // 2])
    second = make("nse", tiny_lm("gpt2"), layers=LAYERS, resources={"cache": tmp_path})
    with pytest.warns(UserWarning, match="is damaged"):
        second.prepare(request)
    assert torch.equal(first.values[request[0]].target, second.values[request[0]].target)
    again = load_file(file)
    assert all(torch.equal(again[name], tensor) for name, tensor in kept.items()) and again.keys() == kept.keys()


def test_an_edit_that_fails_ahead_of_time_fails_when_its_turn_comes():
    lm, requests = tiny_lm("llama"), edits(4)
    lm.model.get_input_embeddings().weight.data[lm.encode("Toko").ids[0]] = float("nan")
    editor = make("nse", lm, layers=LAYERS, alpha=0.0, upper_bound=1e9)
    editor.prepare(requests)
    editor.edit([requests[0]])
    with pytest.raises(EditError, match="edit-1"):
        editor.edit([requests[1]])
    assert editor.ledger.edited_ids == ["edit-0"]


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("nse", {"alpha": 5.0, "upper_bound": 5.0}, "upper_bound is 5.0 and alpha 5.0"),
        ("nse", {"selection": "largest"}, "selection is 'largest'"),
        ("nse", {"memory": "some"}, "memory is 'some'"),
        ("nse", {"max_iterations": 1}, "max_iterations is 1"),
        ("nse", {"neuron_threshold": 0.0}, "neuron_threshold is 0.0"),
        ("memit", {"layers": []}, "layers is \\[\\]"),
        ("memit", {"layers": [3, 2]}, "rising"),
        ("memit", {"covariance_weight": 0.0}, "covariance_weight is 0.0"),
        ("memit", {"solve_dtype": "float16"}, "solve_dtype is 'float16'"),
        ("memit", {"layer": [1]}, "did you mean"),
        ("rome", {"key": "mean"}, "key is 'mean'"),
        ("rome", {"template_lengths": [[5]]}, "template_lengths holds"),
        ("rome", {"steps": 0}, "steps is 0"),
    ],
)
def test_settings_are_checked(method, settings, message):
    with pytest.raises(ValueError, match=message):
        make_editor(method, tiny_lm("gpt2"), **settings)

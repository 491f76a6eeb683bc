"""UltraEdit beside the plain way: one row at a time, all statistics from all rows, the d_in × d_in solve."""

import pytest
import torch

from editbench import EditRecord, EditRequest, Ledger, Resources, make_editor
from editbench.gradient_based.normalisation import EPSILON
from editbench.records import EditError
from tests.small_runs import REQUESTS, same, weights
from tests.tiny_models import LINES, tiny_lm

SETTINGS = {"layers": [0, 2], "learning_rate": 1e-2}
MANY = [EditRequest(str(i), line[: 12 + i].strip(), None, line[-9 - i :].strip()) for i, line in enumerate(LINES)]


def plain_rows(lm, requests, names, loss="editwise"):
    """By module: inputs and gradients, from one row at a time, of each edit's mean loss, or of that over all tokens."""
    found, tokens = {name: ([], []) for name in names}, sum(len(lm.continuation(r.target)) for r in requests)
    for request in requests:
        prompt, target = lm.encode(request.prompt).ids, lm.continuation(request.target)
        kept = {}

        def note(module, args, output, kept=kept):
            new = output.detach().requires_grad_() if not output.requires_grad else output
            kept[module] = args[0].detach(), new
            return new

        modules = {name: lm.model.get_submodule(name) for name in names}
        handles = [module.register_forward_hook(note) for module in modules.values()]
        with torch.enable_grad():
            logits = lm.model(input_ids=torch.tensor([prompt + target[:-1]])).logits[0, len(prompt) - 1 :]
            nll = torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="sum")
            mean = nll / (tokens if loss == "published" else len(target))
            gradients = torch.autograd.grad(mean, [kept[module][1] for module in modules.values()])
        for handle in handles:
            handle.remove()
        for (name, module), gradient in zip(modules.items(), gradients, strict=True):
            found[name][0].append(kept[module][0].reshape(-1, kept[module][0].shape[-1])[len(prompt) - 1 :])
            found[name][1].append(gradient.reshape(-1, gradient.shape[-1])[len(prompt) - 1 :])
    return {name: (torch.cat(h), torch.cat(g)) for name, (h, g) in found.items()}


@pytest.mark.parametrize("loss", ["editwise", "published"])
@pytest.mark.parametrize("statistics", ["shape", "module"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt-post"])
def test_ultraedit(architecture, statistics, loss):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    editor = make_editor("ultraedit", lm, statistics=statistics, loss=loss, **SETTINGS)
    names, history = list(editor.modules), {}
    for batch in (REQUESTS, MANY):
        editor.edit(batch)
        seen = plain_rows(other, batch, names, loss)
        for name in names:
            history.setdefault(name, []).append(torch.cat(seen[name], dim=1))
        deltas = {}
        for name in names:
            same_shape = [x for other_name in names for x in history[other_name]]
            every = torch.cat(same_shape if statistics == "shape" else history[name])
            h, g = seen[name]
            scaled = (torch.cat([h, g], dim=1) - every.mean(0)) / (every.std(0) + EPSILON)
            v = -editor.config.learning_rate * scaled[:, : h.shape[1]].square().sum(1, keepdim=True)
            v = v * scaled[:, h.shape[1] :]
            ridge = torch.eye(h.shape[1], dtype=h.dtype)
            deltas[name] = torch.linalg.solve(h.T @ h + ridge, h.T @ v).T
        for name, delta in deltas.items():
            weight = other.weight(f"{name}.weight")
            weight.add_(delta)
            assert torch.allclose(lm.weight(f"{name}.weight"), weight, rtol=0, atol=1e-5 * float(delta.abs().max()))


def test_other_modules_can_be_edited_and_all_at_once_or_in_parts():
    lm = tiny_lm("llama")
    before = weights(lm)
    names = ["model.layers.0.mlp.gate_proj", "model.layers.2.self_attn.v_proj"]
    editor = make_editor("ultraedit", lm, modules=names, learning_rate=1e-2, edits_at_once=3)
    result = editor.edit(MANY)
    assert set(result.losses) == {r.id for r in MANY} and set(result.details["update_norms"]) == set(names)
    moved = {key for key, tensor in weights(lm).items() if not torch.equal(tensor, before[key])}
    assert moved == {f"{name}.weight" for name in names}
    for name, norm in result.details["update_norms"].items():
        assert norm == pytest.approx(float(editor.ledger.delta(f"{name}.weight").norm()), rel=1e-4)


def test_the_update_of_many_tokens_is_that_of_few_stacked():
    """Where a batch has more tokens than the module inputs, the other form of the solve is used."""
    lm, settings = tiny_lm("gpt2", "float64"), {**SETTINGS, "layers": [1]}
    editor = make_editor("ultraedit", lm, **settings)
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(60, 48, generator=generator, dtype=torch.float64)
    g = torch.randn(60, 32, generator=generator, dtype=torch.float64)
    (name,) = editor.modules
    statistics = editor._statistics()
    editor._add(statistics, {name: (h, g)})
    found = editor._update(name, h, g, statistics["48x32"])
    x = statistics["48x32"].normalise(torch.cat([h, g], dim=1))
    v = -1e-2 * x[:, :48].square().sum(1, keepdim=True) * x[:, 48:]
    dual = h.T @ torch.linalg.solve(h @ h.T + torch.eye(60, dtype=h.dtype), v)
    assert torch.allclose(found.delta, dual.T, rtol=1e-8)


def test_one_labelled_token_is_finite_and_the_published_merge_fails():
    one = EditRequest("one", "Toko Yasuda plays the", None, "guitar")
    lm = tiny_lm("gpt2")
    settings = {**SETTINGS, "layers": [1], "statistics": "module"}
    target = lm.continuation("guitar")
    if len(target) == 1:
        assert make_editor("ultraedit", lm, **settings).edit([one]).applied == ["one"]
    before = weights(lm)
    editor = make_editor("ultraedit", lm, merge="published", **settings)
    if len(target) == 1:
        with pytest.raises(EditError):
            editor.edit([one])
        assert same(before, weights(lm))


def test_training_records_warm_the_statistics_up_and_change_no_weight():
    records = [EditRecord(request) for request in MANY]
    lm = tiny_lm("gpt2")
    editor = make_editor(
        "ultraedit", lm, resources=Resources(load_training_records=lambda: records), warm_up=5, **SETTINGS
    )
    before = weights(lm)
    editor.prepare(REQUESTS)
    assert same(before, weights(lm)) and editor.state() == {}
    (warm,) = editor._statistics().values()
    assert warm.count == 2 * sum(len(lm.continuation(r.target)) for r in MANY[:5])
    editor.edit(REQUESTS)
    editor.ledger.rollback()
    (again,) = editor._statistics().values()
    assert torch.equal(again.mean, warm.mean) and again.count == warm.count
    few = Resources(load_training_records=lambda: records[:2])
    with pytest.raises(ValueError, match="warm_up is 5, but the split train has 2 records"):
        make_editor("ultraedit", lm, resources=few, warm_up=5, **SETTINGS).prepare(REQUESTS)


def test_another_methods_state_is_refused(tmp_path):
    lm = tiny_lm("gpt2")
    editor = make_editor("ultraedit", lm, ledger=Ledger(lm, tmp_path), **SETTINGS)
    with pytest.raises(ValueError, match="no statistics of UltraEdit"):
        editor.restore({"facts": torch.zeros(1)})
    editor.edit(REQUESTS)
    assert editor.state_beside_ledger() == {} and editor.footprint().host == 2 * 80 * 4 + 8

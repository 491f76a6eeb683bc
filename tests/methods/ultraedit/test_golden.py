"""UltraEdit against the published code's numbers: two turns of three edits, layers 2 to 4 of the tiny GPT-2."""

import json

import torch
from safetensors.torch import load_file

from editbench import EditRequest, make_editor
from editbench.gradient_based import module_gradients
from tests.golden_edits import FOLDER, golden_lm, relative


def test_ultraedit(monkeypatch):
    folder = FOLDER / "ultraedit-gpt2"
    data = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "tensors.safetensors")
    requests = [EditRequest(subject=None, **record) for record in data["records"]]
    lm = golden_lm()
    editor = make_editor(
        "ultraedit",
        lm,
        modules=data["modules"],
        learning_rate=data["lr"],
        edits_at_once=data["edits_at_once"],
        merge="published",
    )
    seen, backward = [], module_gradients.backward
    monkeypatch.setattr(module_gradients, "backward", lambda *args: seen.append(backward(*args)) or seen[-1])
    for turn, losses in enumerate(data["losses"]):
        editor.edit(requests[3 * turn : 3 * turn + 3])
        nll, found = seen[turn]
        assert abs(float(nll.mean()) - losses[0]) < 1e-5
        for place, name in enumerate(data["modules"]):
            inputs, gradients = found[name]
            assert relative(gradients, tensors[f"turn{turn}.{place}.values_grad"]) < 1e-4
            assert relative(inputs.norm(dim=1), tensors[f"turn{turn}.{place}.key_norms"]) < 1e-5
        (statistics,) = editor._statistics().values()
        assert statistics.count == int(tensors[f"turn{turn}.n"])
        assert relative(statistics.mean, tensors[f"turn{turn}.mean"]) < 1e-5
        assert relative(statistics.spread, tensors[f"turn{turn}.std"]) < 1e-5
    for name in data["modules"]:
        wanted = tensors[f"delta.{name}.left"] @ tensors[f"delta.{name}.right"].T
        assert relative(editor.ledger.delta(f"{name}.weight"), wanted) < 1e-3
    assert torch.isfinite(lm.weight(f"{data['modules'][0]}.weight")).all()

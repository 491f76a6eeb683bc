"""WISE against the published code's numbers: losses, weights, scores and merges, with ``rules=published``."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from editbench import EditRequest, LanguageModel, Resources, make_editor
from editbench.memory_based.compression import dense
from editbench.methods.wise.memories import Memories, Memory
from editbench.methods.wise.merging import ties
from tests.golden_edits import FOLDER, furthest, relative


class PaddingAttends(LanguageModel):
    """As the version of transformers that was recorded: padding attends to padding before it and to all tokens."""

    def hidden(self, ids, mask, positions, cache=None):
        if mask is not None and mask.ndim == 2 and not bool(mask.all()):
            lowest, width = torch.finfo(torch.float32).min, mask.shape[1]
            causal = torch.where(torch.ones(width, width).tril().bool(), 0.0, lowest)
            mask = (causal[None] + torch.where(mask.bool(), 0.0, lowest)[:, None])[:, None]
        return super().hidden(ids, mask, positions, cache)


@cache
def gold():
    data = json.loads((FOLDER / "wise-gpt2" / "data.json").read_text(encoding="utf-8"))
    tensors = load_file(FOLDER / "wise-gpt2" / "tensors.safetensors")
    return data, {name: tensor.T if tensor.ndim == 2 else tensor for name, tensor in tensors.items()}


def wise():
    data, _ = gold()
    published = data["settings"]
    lm = PaddingAttends.load(FOLDER / "models" / "gpt2", device="cpu", attention="eager")
    editor = make_editor(
        "wise",
        lm,
        resources=Resources(templates=data["templates"]),
        layer=3,
        projection="first",
        steps=published["n_iter"],
        learning_rate=published["edit_lr"],
        norm_bound=published["norm_constraint"],
        save_every=published["save_freq"],
        merge_every=published["merge_freq"],
        density=published["densities"],
        activation=True,
        rules="published",
        **{name: published[name] for name in ("alpha", "beta", "gamma", "act_ratio", "mask_ratio")},
    )
    editor.given_irrelevant = {str(i): edit["loc_prompt"] for i, edit in enumerate(data["edits"])}
    return editor


def mask(number, shape):
    bits = np.unpackbits(gold()[1][f"mask.{number}"].numpy())
    return torch.from_numpy(bits).reshape(shape[1], shape[0]).T.bool()  # stored in × out


@pytest.mark.parametrize("number", [0, 1, 2, 3, 7])
def test_an_edit_from_the_recorded_weight(number):
    data, tensors = gold()
    editor, edit = wise(), data["edits"][number]
    base = editor._base
    start = base if number % 2 == 0 else tensors[f"edit.{number - 1}.weight"]
    request = EditRequest(str(number), edit["prompt"], None, edit["target_new"])
    found = editor._train(request, base, start, mask(number // 2 * 2, base.shape))
    wanted = data["steps"][str(number)]
    assert furthest([answer for answer, _ in found.losses], [step["ft"] for step in wanted]) < 1e-4
    assert furthest([margin for _, margin in found.losses], [step["act"] for step in wanted]) < 1e-4
    assert relative(found.weight - start, tensors[f"edit.{number}.weight"] - start) < 1e-3
    scores = data["in_scope_last"][str(number)]
    assert abs(found.score - sum(scores) / len(scores)) < 1e-4


def test_two_edits_make_a_shard_and_four_a_merge():
    data, tensors = gold()
    editor = wise()
    base = editor._base
    editor.given_masks = {0: mask(0, base.shape), 1: mask(2, base.shape)}
    for number, edit in enumerate(data["edits"][:4]):
        editor.edit([EditRequest(str(number), edit["prompt"], None, edit["target_new"])])
        newest = editor.memories.all[-1]
        if number < 3:
            delta = newest.delta.delta(torch.float32)
            assert relative(delta, tensors[f"edit.{number}.weight"] - base) < 5e-3
            assert newest.minimum == pytest.approx(data["shard_min_act"][str(number)], abs=1e-3)
    (merged,) = editor.memories.all
    assert merged.edits == ("0", "1", "2", "3") and merged.minimum == pytest.approx(
        data["final"]["memory_min_act"][0], 1e-3
    )
    assert relative(merged.delta.delta(torch.float32), tensors["final.memory.0"] - base) < 5e-2


def test_a_merge():
    """Equal numbers at the cut are left out: which of them stay is up to the sort."""
    _, tensors = gold()
    base = wise()._base
    deltas = [tensors[f"edit.{number}.weight"] - base for number in (1, 3)]
    found, wanted = ties(deltas, [0.5, 0.5], 0.53), tensors["final.memory.0"] - base
    size = int(0.53 * base.numel())
    tied = torch.zeros_like(base, dtype=torch.bool)
    for delta in deltas:
        tied |= delta.abs() == delta.abs().flatten().topk(size).values[-1]
    assert int(tied.sum()) < 100
    assert torch.allclose(found[~tied], wanted[~tied], rtol=0, atol=1e-7)


def test_scores_and_choices():
    data, tensors = gold()
    editor = wise()
    base, final = editor._base, data["final"]
    minima = [*final["memory_min_act"], final["min_act"]]
    names = ["final.memory.0", "final.memory.1", "final.new_weight"]
    memories = [
        Memory(name, dense(tensors[name] - base, torch.float32), minimum, (name,))
        for name, minimum in zip(names, minima, strict=True)
    ]
    editor.memories = Memories(tuple(memories[:2]), memories[2], 9)
    fired = set()
    for query in data["queries"]:
        x = editor.lm.encode(query["text"]).ids
        ids = torch.tensor([x])
        with torch.no_grad(), editor.answering([len(x) - 1]) as routing:
            editor.lm.model(input_ids=ids)
        wanted = {"new": "final.new_weight", "memory0": "final.memory.0", "memory1": "final.memory.1"}
        assert routing.answered_by == [wanted.get(query["chosen"])]
        fired.add(query["chosen"])
        (route,) = editor.route([query["text"]])
        assert route.id == wanted.get(query["chosen"])
        found = editor.scores(*tokens_of(editor, x), 1)[0].tolist()
        assert furthest(found, [*query["memory"], query["new"]]) < 1e-4
    assert len(fired) >= 3


def tokens_of(editor, ids):
    """Inputs of the projection at all tokens of a row, and their row."""
    seen = []
    handle = editor.projection.module.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        editor.lm.model(input_ids=torch.tensor([ids]))
    handle.remove()
    return seen[0].reshape(len(ids), -1), torch.zeros(len(ids), dtype=torch.long)

"""Rows of an edit: which tokens count, and the loss, against the whole model."""

import pytest
import torch

from editbench.memory_based.projection import SECOND, Projection
from editbench.methods.wise.rows import EditRows, PublishedRows
from tests.oracles import wise as oracle
from tests.small_runs import architectures
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm


def rows_of(lm):
    answer = lm.continuation("guitar, they say")
    prompts = ["Toko Yasuda plays the", "They say. Toko Yasuda plays the", "In Spain, Toko Yasuda plays the"]
    return [(lm.encode(p).ids, answer) for p in prompts], lm.encode("The twin city of Lyon is").ids


@pytest.mark.parametrize("architecture", architectures(TINY_ARCHITECTURES))
def test_sound_rows(architecture):
    lm = tiny_lm(architecture, "float32" if architecture.startswith("gemma") else "float64")
    at = Projection.of(lm, 1, SECOND)
    rows, irrelevant = rows_of(lm)
    data = EditRows(lm, at, rows, irrelevant)
    delta = 0.3 * torch.randn(at.d_out, at.d_in, generator=torch.Generator().manual_seed(1)).to(data.inputs)
    with torch.no_grad():
        found = data.loss(data.inputs @ delta.T)
        wanted = []
        for prompt, answer in rows:
            ids = torch.tensor([[*prompt, *answer]])
            labels = ids.clone()
            labels[:, : len(prompt)] = -100
            with oracle.exchanged(lm, at, delta):
                wanted.append(float(lm.model(input_ids=ids, labels=labels, use_cache=False).loss))
    assert float(found) == pytest.approx(sum(wanted) / 3, rel=1e-4)
    counted = [data.counted[data.row_of == i] for i in range(4)]
    assert [int(c.sum()) for c in counted] == [*(len(p) for p, _ in rows), len(irrelevant)]
    assert all(bool(c[: len(p)].all()) for c, (p, _) in zip(counted, rows, strict=False))
    for i, (prompt, _) in enumerate(rows):
        own = data.inputs[data.row_of == i][: len(prompt)]
        assert torch.allclose(own, oracle.inputs(lm, at, prompt), rtol=1e-4, atol=1e-5)


def test_published_rows_count_all_columns_and_divide_by_one_too_many():
    lm = tiny_lm("llama", "float64")
    at = Projection.of(lm, 1, SECOND)
    rows, irrelevant = rows_of(lm)
    longest = max(rows, key=lambda row: len(row[0]))
    data = PublishedRows(lm, at, [longest], irrelevant)
    width = len(longest[0]) + len(longest[1])
    assert bool(data.counted.all()) and data.inputs.shape == (2 * width, at.d_in)
    sound = EditRows(lm, at, [longest], irrelevant)
    n = len(longest[1])
    zero = torch.zeros(len(data.inputs), at.d_out, dtype=torch.float64)
    with torch.no_grad():
        same = sound.loss(zero[: len(sound.inputs)])
        assert float(data.loss(zero)) == pytest.approx(float(same) * n / (n + 1))

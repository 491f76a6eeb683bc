"""Rows that a block is trained on: where keys stand, and what counts as the answer."""

import pytest
import torch

from editbench.memory_based.projection import SECOND, Projection
from editbench.methods.melo.rows import EditRows, PublishedRows
from tests.oracles import grace as oracle
from tests.small_runs import REQUESTS, architectures
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm


@pytest.mark.parametrize("lowest", [1, 2])
@pytest.mark.parametrize("architecture", architectures(TINY_ARCHITECTURES))
def test_sound_keys_and_loss(architecture, lowest):
    lm = tiny_lm(architecture, "float32" if architecture.startswith("gemma") else "float64")
    at = Projection.of(lm, 1, SECOND)
    rows = EditRows(lm, at, Projection.of(lm, lowest, SECOND), REQUESTS, False)
    losses = []
    for i, request in enumerate(REQUESTS):
        prompt, answer = lm.encode(request.prompt).ids, lm.continuation(request.target)
        assert rows.labels[i] == tuple(answer)
        with torch.no_grad():
            key = at.module(oracle.query(lm, at.module, prompt)[None])[0]
            logits = lm.model(input_ids=torch.tensor([[*prompt, *answer[:-1]]]), use_cache=False).logits[0]
        assert torch.allclose(rows.keys[i], key, rtol=1e-4, atol=1e-5)
        log_p = logits[len(prompt) - 1 :].log_softmax(-1)
        losses.append(float(-log_p[range(len(answer)), answer].mean()))
    with torch.no_grad():
        assert float(rows.loss([], 2)) == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_published_keys_stand_behind_the_answer_and_all_tokens_count_alike():
    lm = tiny_lm("llama", "float64")
    at = Projection.of(lm, 1, SECOND)
    rows = PublishedRows(lm, at, REQUESTS[:2], False)
    whole = [lm.encode(f"{r.prompt} {r.target} <|endoftext|>").ids for r in REQUESTS[:2]]
    longest = max(range(2), key=lambda i: len(whole[i]))
    with torch.no_grad():
        key = at.module(oracle.query(lm, at.module, whole[longest])[None])[0]
    assert torch.allclose(rows.keys[longest], key)
    total, count = 0.0, 0
    for ids, request, label in zip(whole, REQUESTS, rows.labels, strict=False):
        start = len(lm.encode(request.prompt).ids)
        answer = ids[start:]
        assert label == tuple(answer)
        with torch.no_grad():
            log_p = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        total -= float(log_p[range(start - 1, len(ids) - 1), answer].sum())
        count += len(answer)
    with torch.no_grad():
        assert float(rows.loss([], 1)) == pytest.approx(total / count)

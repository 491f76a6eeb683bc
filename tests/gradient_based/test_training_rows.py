"""Rows of edits beside one prompt at a time through the whole model."""

import pytest
import torch

from editbench.gradient_based.training_rows import OBJECTIVES, TrainingRows
from tests.small_runs import REQUESTS
from tests.tiny_models import tiny_lm


def plain(lm, request, objective, eos):
    prompt = lm.encode(request.prompt).ids
    target = lm.continuation(request.target) + ([lm.tokenizer.eos_token_id] if eos else [])
    row = prompt if objective == "prompt_last" else prompt + target[:-1]
    log_p = lm.model(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
    if objective == "prompt_last":
        return [-log_p[-1, token] for token in target]
    whole = prompt + target
    first = 1 if objective == "text" else len(prompt)
    return [-log_p[i - 1, whole[i]] for i in range(first, len(whole))]


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("eos", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_losses(architecture, objective, eos, first):
    lm = tiny_lm(architecture, "float64", bos=True)
    rows = TrainingRows(lm, REQUESTS, first=first, objective=objective, train_eos=eos)
    with torch.no_grad():
        wanted = [torch.stack(plain(lm, request, objective, eos)) for request in REQUESTS]
        nll, loss = rows.nll(), rows.loss()
    assert torch.allclose(nll, torch.cat(wanted))
    assert rows.by_edit(nll) == pytest.approx([float(one.mean()) for one in wanted])
    assert float(loss) == pytest.approx(sum(float(one.mean()) for one in wanted) / len(wanted))
    assert rows.ids == ["a", "b", "c", "d"]

"""Restored runs in cases that can be checked by hand."""

import pytest
import torch

from editbench.layer_search.causal_tracing import draw_noise
from editbench.layer_search.restored_runs import (
    HIDDEN,
    Prompt,
    Restoration,
    clean_run,
    probabilities,
)
from tests.layer_search.plain_trace import NOTHING, SETTINGS, knowing, plain_run
from tests.tiny_models import LAYERS, tiny_lm


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_restoring_everything_gives_the_clean_answer_and_restoring_nothing_the_corrupted_one(architecture):
    lm = tiny_lm(architecture, "float64", bos=True)
    prompt = Prompt.of(lm, knowing(lm)[0])
    clean, noise = clean_run(lm, prompt), draw_noise(lm, prompt, SETTINGS)
    end, subject = len(prompt.ids) - 1, prompt.subject[-1]
    last_layer = range(LAYERS - 1, LAYERS)
    restorations = [Restoration(HIDDEN, end, last_layer), Restoration(HIDDEN, subject, last_layer), NOTHING]
    whole, useless, nothing = probabilities(lm, prompt, clean, noise, restorations)
    assert torch.allclose(whole, torch.full_like(whole, clean.probability), rtol=1e-12)
    corrupted = [plain_run(lm, prompt, one, None, None, None, ())[0] for one in noise]
    assert torch.allclose(nothing, torch.tensor(corrupted, dtype=torch.float64), rtol=1e-12)
    assert torch.allclose(useless, nothing, rtol=1e-12)  # nobody looks at the subject any more
    still = probabilities(lm, prompt, clean, 0 * noise, restorations)
    assert torch.allclose(still, torch.full_like(still, clean.probability), rtol=1e-12)  # no noise, nothing to restore


def test_the_subjects_tokens_are_found_by_characters():
    lm = tiny_lm("llama", bos=True)
    prompt = Prompt.of(lm, knowing(lm)[0])
    text = lm.tokenizer.decode([prompt.ids[i] for i in prompt.subject])
    assert text.strip() == "Danielle Darrieux"
    assert list(prompt.subject) == list(range(prompt.subject[0], prompt.subject[-1] + 1))

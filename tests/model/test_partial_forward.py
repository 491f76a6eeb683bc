"""Partial forward passes: some of the layers or columns give what the whole model gives there."""

import pytest
import torch

from editbench.model.batching import PaddedBatch
from editbench.model.hooks import hooked
from editbench.model.partial_forward import run_layers
from editbench.model.prefix_cache import PrefixCache, recording_cache
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm

PROMPTS = ("Toko Yasuda plays the guitar", "Toko Yasuda", "Which language does a person from Lyon speak")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
@torch.no_grad()
def test_parts_give_what_the_whole_model_gives(architecture, dtype):
    lm = tiny_lm(architecture, dtype, bos=True)
    rows = [lm.encode(prompt).ids for prompt in PROMPTS]
    batch = PaddedBatch.pad(rows, [len(row) - 1 for row in rows], lm.pad_id, lm.device)  # the last tokens' column
    start, tokens = batch.ids.shape[1] - 2, batch.mask.bool()
    plain = [lm.decoder(input_ids=torch.tensor([row]), use_cache=False).last_hidden_state[0] for row in rows]
    entering, cache, names = [], recording_cache(lm), [type(layer) for layer in lm.layers]
    with hooked(lm.layers[1], lambda t: entering.append(t.clone()), inputs=True):
        whole = run_layers(lm, batch, cache=cache)
    above = run_layers(lm, batch, first=1, hidden=entering[0])
    behind = run_layers(lm, batch, cache=PrefixCache.of(_upto(lm, batch, start)), start=start)
    for i, wanted in enumerate(plain):
        torch.testing.assert_close(whole[i][tokens[i]], wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(above[i][tokens[i]], wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            behind[i][tokens[i, start:]], wanted[-int(tokens[i, start:].sum()) :], rtol=1e-4, atol=1e-4
        )
    assert [type(layer) for layer in lm.layers] == names  # all are back


def _upto(lm, batch, width):
    cache = recording_cache(lm)
    run_layers(lm, batch.upto(width), cache=cache)
    return cache


@torch.no_grad()
def test_layers_that_are_cut_off_do_not_run():
    lm, ran = tiny_lm("llama"), []
    batch = PaddedBatch.pad([lm.encode(PROMPTS[0]).ids], [0], lm.pad_id, lm.device)
    hidden = []
    handles = [layer.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, layer in enumerate(lm.layers)]
    with hooked(lm.layers[1], hidden.append, inputs=True):
        run_layers(lm, batch, last=1)
        assert ran == [0, 1]
        run_layers(lm, batch, first=2, hidden=hidden[0])
    assert ran == [0, 1, 2]
    for handle in handles:
        handle.remove()

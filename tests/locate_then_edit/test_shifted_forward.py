"""Shifted forward passes: the whole model with a hook gives the same, for all rows and for some."""

import pytest
import torch

from editbench.locate_then_edit.prompts import edit_rows
from editbench.locate_then_edit.shifted_forward import AT_LAYER, AT_MLP, ShiftedForward
from tests.edits import TEMPLATES, edits
from tests.oracles import locate as oracle
from tests.tiny_models import tiny_lm


def at_subject(lm, row, layer, at, shift):
    """Final hidden state (d) of one row, the whole model run."""

    def add(tensor):
        out = tensor.clone().reshape(1, -1, tensor.shape[-1])
        out[0, row.subject] += shift
        return out.reshape(tensor.shape)

    at_mlp = at == AT_MLP or oracle.norm_behind(lm, layer) is not None
    handle = oracle.hooked(lm.mlp_out(layer) if at_mlp else lm.layers[layer], add)
    ids = torch.tensor([row.ids])
    states = lm.hidden(ids, torch.ones_like(ids), torch.arange(len(row.ids))[None])
    handle.remove()
    return states[0, row.subject]


@pytest.mark.parametrize("at", [AT_MLP, AT_LAYER])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "opt-post"])
@torch.no_grad()
def test_a_shift_is_what_a_hook_gives(architecture, at):
    lm = tiny_lm(architecture, "float64", bos=True)
    rows = [row for request in edits(3) for row in edit_rows(lm, request, TEMPLATES)]
    forward = ShiftedForward.of(lm, rows, 1, at)
    shift = 0.3 * torch.randn(len(rows), 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = torch.stack([at_subject(lm, row, 1, at, x) for row, x in zip(rows, shift, strict=True)])
    some = torch.tensor([len(rows) - 1, 2, 0])
    for index, part in ((torch.arange(len(rows)), forward), (some, forward.select(some.tolist()))):
        found = part.final(shift[index], part.subjects)
        torch.testing.assert_close(found, wanted[index], rtol=1e-5, atol=1e-6)

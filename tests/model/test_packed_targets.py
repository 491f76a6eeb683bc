"""Packed rows: masks and tokens by hand."""

import pytest
import torch

from editbench.model.packed_targets import PADDING, PROMPT, Tokeniser, lead_of, packed_mask
from tests.tiny_models import tiny_lm


def test_a_mask_by_hand():
    segments = torch.tensor([[PADDING, PROMPT, PROMPT, PROMPT, 1, 1, 2]])
    positions = torch.tensor([[0, 0, 1, 2, 3, 4, 3]])
    sees = [
        "x......",
        ".x.....",
        ".xx....",
        ".xxx...",
        ".xxxx..",
        ".xxxxx.",
        ".xxx..x",
    ]
    expected = torch.tensor([[c == "x" for c in line] for line in sees])
    full = packed_mask(positions, segments, torch.float32)
    assert torch.equal(full[0, 0] == 0, expected)
    assert full.min() == torch.finfo(torch.float32).min
    windowed = packed_mask(positions, segments, torch.float32, window=2)[0, 0] == 0
    assert windowed[5].tolist() == [c == "x" for c in "....xx."]
    assert windowed[6].tolist() == [c == "x" for c in "...x..x"]


def test_the_first_half_of_a_text_leads_by_hand():
    found = [lead_of(text, None) for text in ((), (5,), (5, 6), (5, 6, 7), (5, 6, 7, 8))]
    assert found == [1, 1, 1, 1, 2]
    found = [lead_of(text, 0) for text in ((0,), (0, 5), (0, 5, 6), (0, 5, 6, 7), (0, 5, 6, 7, 8))]
    assert found == [1, 1, 2, 2, 3]  # BOS stands before the first half


@pytest.mark.parametrize("bos", [False, True])
def test_a_text_that_is_too_long_is_cut_before_its_middle_is_sought(bos):
    lm = tiny_lm("gpt2", bos=bos)
    text = "Toko Yasuda plays the guitar, and " * 40
    ids = tuple(lm.encode(text).ids[: lm.max_length + 1])  # the last one is not fed in
    pair = Tokeniser(lm)("", text)
    assert pair.cut and pair.prompt + pair.target == ids
    assert pair.lead == bos + (len(ids) - bos) // 2


@pytest.mark.parametrize("bos", [False, True])
def test_a_text_that_is_too_long_behind_an_editors_text_keeps_its_own_tokens(bos):
    lm = tiny_lm("gpt2", bos=bos)
    front = "The mother tongue of Danielle Darrieux is French. " * 20
    text = "Toko Yasuda plays the guitar."
    ids, own = lm.encode(front).ids, lm.encode(text).ids
    pair = Tokeniser(lm, asked=lambda text: front + text)("", text)
    left = lm.max_length + 1 - len(own[1:])
    head = [*ids, *own[: 1 - bos]]
    assert pair.cut and pair.target == tuple(own[1:])
    assert pair.prompt == tuple([*head[:bos], *head[len(head) - left + bos :]]) and len(pair.prompt) == left
    assert pair.lead == len(pair.prompt) - 1 + lead_of(tuple(own), lm.tokenizer.bos_token_id)
    assert Tokeniser(lm, asked=lambda text: front + text)("", "") == Tokeniser(lm)("", "") or bos

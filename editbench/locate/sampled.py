"""Plain text of the model's own, for second moments where the user has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from editbench.progress import progress

if TYPE_CHECKING:
    from editbench.host import Host

VERSION = 2
"""Changes with the texts that are sampled from the same model and seed."""
ROWS, LENGTH = 64, 64


@torch.no_grad()
def sample_texts(host: Host, tokens: int, seed: int) -> list[str]:
    """About ``tokens`` tokens of text sampled from the unedited model, from BOS alone, temperature 1, seeded."""
    tokenizer = host.tokenizer
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    inputs = torch.full((ROWS, 1), start if start is not None else host.pad_id, device=host.device)
    texts: list[str] = []
    rounds = max(1, -(-tokens // (ROWS * LENGTH)))
    devices = [host.device.index or 0] if host.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        progress("sampling plain text", rounds) as advance,
        host.generation_settings(do_sample=True, top_k=0, max_new_tokens=LENGTH),
    ):
        torch.manual_seed(seed)
        for _ in range(rounds):
            out = host.model.generate(input_ids=inputs, attention_mask=torch.ones_like(inputs))
            texts += [str(t) for t in tokenizer.batch_decode(out[:, 1:], skip_special_tokens=True)]
            advance()
    return [t for t in texts if t.strip()]

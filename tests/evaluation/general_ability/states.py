"""What a test of ability may not change, and the rows that a run writes of it."""

import json

import torch


def state_of(lm):
    """Everything of a model that a test could have touched."""
    tokenizer = lm.tokenizer
    return {
        "weights": {name: (id(p), p.detach().clone()) for name, p in lm.model.named_parameters()},
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules()],
        "mode": [m.training for m in lm.model.modules()],
        "grad": [p.requires_grad for p in lm.model.parameters()],
        "tokenizer": (
            tokenizer.padding_side,
            tokenizer.pad_token_id,
            len(tokenizer),
            tokenizer.backend_tokenizer.to_str(),
        ),
        "generation": lm.model.generation_config.to_dict(),
    }


def assert_untouched(lm, before):
    now = state_of(lm)
    for name, (identity, value) in before.pop("weights").items():
        assert now["weights"][name][0] == identity
        assert torch.equal(now["weights"][name][1], value)
    assert {k: v for k, v in now.items() if k != "weights"} == before


def rows_of(folder):
    return [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]

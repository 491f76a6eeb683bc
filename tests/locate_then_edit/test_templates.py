"""Context templates: seeded, checked, without special tokens."""

import pytest
import torch

from editbench.locate_then_edit.templates import check_templates, generate_templates
from tests.model.test_tokenisation import metaspace
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_templates_are_seeded_and_hold_no_special_token(architecture):
    lm = tiny_lm(architecture, bos=architecture == "llama")
    plan = [("", 5, 3), ("The", 4, 1)]
    one, again, other = (generate_templates(lm, plan, seed) for seed in (0, 0, 1))
    assert one == again
    assert one != other
    assert one[0] == "{}"
    assert len(one) == 5
    for template in one:
        assert template.count("{}") == 1
        assert not any(token in template for token in lm.tokenizer.all_special_tokens)
    state = torch.random.get_rng_state()
    generate_templates(lm, plan, 0)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's randomness is touched


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("bos", [True, False])
def test_a_space_follows_the_start_whatever_the_tokenizer(legacy, bos, monkeypatch):
    """SentencePiece's decoders drop the space before the first token that they are given."""
    lm = tiny_lm("llama")
    lm.tokenizer = metaspace(legacy=legacy, bos=bos)
    words = torch.tensor(lm.tokenizer.convert_tokens_to_ids(["▁of", "▁Italian"]))
    monkeypatch.setattr(
        lm.model, "generate", lambda input_ids, **_: torch.cat([input_ids, words.expand(len(input_ids), -1)], dim=1)
    )
    assert generate_templates(lm, [("The", 2, 2), ("", 2, 1)], 0) == [
        "{}",
        *2 * ["The of Italian. {}"],
        "of Italian. {}",
    ]


def test_given_templates_are_checked_and_the_bare_one_comes_first():
    assert check_templates(["They say. {}"]) == ["{}", "They say. {}"]
    with pytest.raises(ValueError, match="exactly once"):
        check_templates(["no place"])

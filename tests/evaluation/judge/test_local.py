"""A judge that runs here, on tiny models whose reply is known."""

import logging

import pytest
import torch

from editbench.evaluation.judge.local import LocalJudge
from editbench.protocol_parts import JudgeConfig
from tests.tiny_models import tiny_lm


def saying(word, folder):
    """A folder with a tiny model that says nothing but the first token of this word."""
    lm = tiny_lm("gpt2")
    model = lm.model
    token = lm.tokenizer(word).input_ids[0]
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        rows = model.transformer.wte.weight
        rows[token] *= 10
        model.transformer.ln_f.bias.copy_(rows[token])
    model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return lm.tokenizer.decode([token])


def test_the_reply_is_generated(tmp_path):
    word = saying("Paris", tmp_path)
    judge = LocalJudge(JudgeConfig(model=str(tmp_path), max_tokens=3))
    assert dict(judge.replies(["Is it?", "Or not?"])) == dict.fromkeys((0, 1), (word * 3).strip())


def test_what_is_too_long_gets_an_empty_reply_and_a_warning(tmp_path, caplog):
    saying("Paris", tmp_path)
    judge = LocalJudge(JudgeConfig(model=str(tmp_path), max_tokens=3))
    with caplog.at_level(logging.WARNING):
        assert dict(judge.replies(["Is it? " * 100, "Or not?"]))[0] == ""
    assert dict(judge.replies(["Was it? " * 100])) == {0: ""}
    assert caplog.text.count("too long for the judge, which takes 128 tokens") == 1


def test_the_identity_is_that_of_weights_and_settings(tmp_path):
    saying("Paris", tmp_path / "a")
    saying("Rome", tmp_path / "b")
    settings = [{"model": "a"}, {"model": "b"}, {"model": "a", "max_tokens": 2}, {"model": "a", "dtype": "float64"}]
    found = [LocalJudge(JudgeConfig(**{**own, "model": str(tmp_path / own["model"])})).identity for own in settings]
    assert all(a != b for i, a in enumerate(found) for b in found[:i])
    assert LocalJudge(JudgeConfig(model=str(tmp_path / "a"))).identity == found[0]


def test_a_chat_template_is_used(tmp_path):
    lm = tiny_lm("gpt2")
    lm.tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}<assistant>"
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    judge = LocalJudge(JudgeConfig(model=str(tmp_path)))
    assert judge._format.apply("Is it?") == "<user>Is it?</s><assistant>"


def test_a_missing_model_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"the judge cannot be loaded \(protocol.judge.model\): no model"):
        LocalJudge(JudgeConfig(model=str(tmp_path / "none")))

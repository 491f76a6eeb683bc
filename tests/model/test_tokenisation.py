"""Tokenisation: prompts and continuations are right for every style of tokenizer."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from editbench.model.language_model import LanguageModel
from tests.tiny_models import tiny_lm, tiny_tokenizer


def metaspace(*, legacy, bos):
    """A SentencePiece-like tokenizer: words with ▁, single characters as a fallback; ``legacy`` has a normalizer."""
    words = ["▁The", "▁of", "▁is", "▁Italian", "▁French", "▁New", "▁York", "x", "▁x", ".", ":", "▁."]
    letters = [chr(c) for c in range(33, 127)] + ["▁", "é", "ü", "ł"]
    vocabulary = {t: i for i, t in enumerate(dict.fromkeys(["<unk>", "<s>", "</s>", *words, *letters]))}
    scores = [(t, -1.0 if len(t) > 1 else -5.0) for t in vocabulary]
    backend = Tokenizer(models.Unigram(scores, unk_id=0))
    if legacy:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        backend.decoder = decoders.Metaspace(prepend_scheme="first")
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def lm_with(tokenizer):
    lm = tiny_lm("llama")
    lm.tokenizer = tokenizer
    return lm


STYLES = {
    "byte-level": lambda bos: tiny_tokenizer(bos=bos),
    "metaspace": lambda bos: metaspace(legacy=False, bos=bos),
    "sentencepiece": lambda bos: metaspace(legacy=True, bos=bos),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("target", ["Italian", " Italian", "New York", "é", "x."])
def test_continuation_is_what_follows_the_prompt(style, bos, target):
    """Prompt ids followed by continuation ids are the ids of the whole text: one space, no BOS, nothing doubled."""
    lm = lm_with(STYLES[style](bos))
    prompt = "The York is"
    whole = lm.encode(f"{prompt} {target.strip()}").ids
    assert lm.encode(prompt).ids + lm.continuation(target) == whole


@pytest.mark.parametrize(
    ("template", "before"),
    [("<s> $A </s>", ["<s>"]), ("$A </s>", []), ("<s> $A </s> <unk>", ["<s>"]), ("<s> <unk> $A", ["<s>", "<unk>"])],
)
@pytest.mark.parametrize("style", STYLES)
def test_nothing_is_appended_behind_a_prompt(style, template, before):
    """Tokenizers with add_eos_token, or with a [SEP]: the answer comes right behind the prompt."""
    unchanged, lm = lm_with(STYLES[style](False)), lm_with(STYLES[style](False))
    tokenizer = lm.tokenizer
    bare = {text: unchanged.encode(text) for text in ("", "The York is", "The York is </s>")}
    special = [(name, tokenizer.convert_tokens_to_ids(name) or 0) for name in ("<s>", "</s>", "<unk>")]
    added = processors.TemplateProcessing(single=template, special_tokens=special)
    own = tokenizer.backend_tokenizer.post_processor
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([own, added]) if own is not None else added
    ids = [dict(special)[name] for name in before]
    for text, expected in bare.items():
        assert lm.encode(text).ids == ids + expected.ids
        assert lm.encode(text).offsets == [(0, 0)] * len(ids) + expected.offsets
    assert lm.continuation("Italian") == unchanged.continuation("Italian")


def test_a_caller_may_change_the_ids_that_it_got():
    lm = lm_with(STYLES["byte-level"](False))
    first, behind = lm.encode("The York is"), lm.continuation("Italian")
    ids, end = list(first.ids), list(behind)
    first.ids.clear(), first.offsets.clear(), behind.clear()
    assert (lm.encode("The York is").ids, lm.continuation("Italian")) == (ids, end)


def test_an_eos_behind_prompts_changes_no_answer():
    """Known answers stay known."""
    lm, other = tiny_lm("llama", bos=True), tiny_lm("llama", bos=True)
    byte_level = processors.ByteLevel(trim_offsets=True)
    template = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    other.tokenizer.backend_tokenizer.post_processor = processors.Sequence([byte_level, template])
    assert other.tokenizer("Rome").input_ids[-1] == 2
    prompts = ["The mother tongue of Danielle Darrieux is", "Toko"]
    assert other.generate(prompts, max_new_tokens=5) == lm.generate(prompts, max_new_tokens=5)


def test_a_tokenizer_without_offsets_is_refused():
    lm = tiny_lm("gpt2")

    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match="no character offsets"):
        LanguageModel(lm.model, Slow())


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("prompt", ["The York\n", "The York (", 'The York "', "The York “"])
def test_no_space_stands_behind_a_line_break_a_bracket_or_a_quotation_mark(style, prompt):
    lm = lm_with(STYLES[style](True))
    assert not lm.spaced(prompt)
    ids = lm.continuation("New York", lm.spaced(prompt))
    assert ids == lm.continuation(" New York", False) != lm.continuation("New York")
    assert lm.tokenizer.decode([*lm.encode("The").ids, *ids], skip_special_tokens=True) == "TheNew York"


def test_no_space_stands_behind_a_special_token():
    lm = lm_with(tiny_tokenizer(bos=True))
    assert not lm.spaced("Who? </s>") and lm.spaced("Who? [/INST]") and lm.spaced("Who?")

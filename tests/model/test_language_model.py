"""The language model: padding, lengths, generation and the hash of its content."""

import re

import pytest

from tests.tiny_models import add_token, tiny_lm, word_tokenizer


def test_padding_has_an_embedding():
    lm = tiny_lm("llama")
    lm.tokenizer.add_special_tokens({"pad_token": "[PAD]"})  # and the embedding is not enlarged
    assert lm.tokenizer.pad_token_id >= lm.model.get_input_embeddings().weight.shape[0]
    assert lm.pad_id == lm.tokenizer.eos_token_id
    prompts = ["The mother tongue of Danielle Darrieux is", "Toko"]
    assert lm.generate(prompts, max_new_tokens=3) == [lm.generate(p, max_new_tokens=3)[0] for p in prompts]


def test_too_long():
    lm = tiny_lm("gpt2")
    tokens = [len(lm.encode("Toko plays").ids), *(len(lm.continuation(t)) for t in ("guitar, they say", "Rome"))]
    lm.model.config.n_positions = sum(tokens[:2])
    assert lm.max_length == sum(tokens[:2]) and tokens[1] > tokens[2]
    assert lm.too_long("Toko plays", "Rome", "guitar, they say") is None
    lm.model.config.n_positions -= 1
    assert lm.too_long("Toko plays", "Rome") is None
    reason = f"prompt and answer take {sum(tokens[:2])} tokens, tiny-gpt2 has {sum(tokens[:2]) - 1}"
    assert lm.too_long("Toko plays", "Rome", "guitar, they say") == reason
    lm.model.config.n_positions = tokens[0] - 1
    assert lm.too_long("Toko plays") == f"the prompt takes {tokens[0]} tokens, tiny-gpt2 has {tokens[0] - 1}"
    with pytest.raises(
        ValueError, match=rf"takes {tokens[0]} tokens and 3 are to follow, tiny-gpt2 has {tokens[0] - 1}"
    ):
        lm.generate("Toko plays", max_new_tokens=3)


def test_generation_is_the_same_for_any_batch():
    lm = tiny_lm("llama", bos=True)
    prompts = ["The mother tongue of Danielle Darrieux is", "Toko", "What is the twin city of Lyon? It is"]
    together = lm.generate(prompts, max_new_tokens=5)
    assert together == [lm.generate(p, max_new_tokens=5)[0] for p in prompts]


def test_fingerprint_tells_weights_and_dtypes_apart():
    one, two = tiny_lm("gpt2"), tiny_lm("gpt2")
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != tiny_lm("gpt2", "float64").fingerprint
    three = tiny_lm("gpt2")
    three.weight(three.mlp_out_name(0))[0, 0] += 1e-3
    assert three.fingerprint != one.fingerprint


def test_a_token_without_an_embedding_is_named():
    lm = tiny_lm("llama")
    rows, added = lm.embeddings, add_token(lm, "Lyonesse")
    wanted = rf"has the token 'Lyonesse' \(id {added}\), but the embedding of tiny-llama has {rows} rows"
    for ask in (lm.encode, lm.continuation):
        with pytest.raises(ValueError, match=wanted):
            ask("Lyonesse")
    assert re.search(wanted, lm.unaskable("The capital of Lyonesse is", "Rome"))
    assert re.search(wanted, lm.unaskable("The capital of Italy is", "Rome", "Lyonesse"))
    assert re.search(wanted, lm.unwritable_subject("Lyonesse"))
    assert lm.unaskable("The capital of Italy is", "Rome") is None


def test_what_is_written_with_the_unknown_token_is_no_text():
    lm = tiny_lm("llama")
    lm.tokenizer = word_tokenizer("x", "Toko", "plays", "guitar")
    wanted = "the tokenizer cannot write '東京': it gives <unk> (id 0), which stands for any text that it does not know"
    assert lm.unaskable("Toko plays", "guitar", "東京") == lm.unwritable_subject("東京") == wanted
    assert lm.unaskable("She plays", "guitar") is None, "an unknown word in a prompt is left as it is"
    assert lm.unaskable("Toko plays", "<unk>") is None, "the text of the unknown token itself"
    assert lm.unwritable_subject("Toko") is None


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_new_tokens": "3"}, "max_new_tokens is '3'; it must be a whole number from 1"),
        ({"max_new_tokens": None}, "max_new_tokens is None; it must be a whole number from 1"),
        ({"num_beams": 0}, "num_beams is 0; it must be a whole number from 1"),
        ({"return_dict_in_generate": True}, "return_dict_in_generate is true, but texts are returned"),
    ],
)
def test_options_of_generation_that_cannot_be(option, message):
    with pytest.raises(ValueError, match=message):
        tiny_lm("gpt2").generate("Toko plays", **option)

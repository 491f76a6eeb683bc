"""Architecture and host: every architecture is found and checked, tokens are right, unknown models get a helpful
error."""

import dataclasses

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from editbench import compose as composing_module
from editbench.model import language_model as lm_module
from editbench.model.architectures import (
    ARCHITECTURES,
    ArchitectureError,
    check_architecture,
    find_architecture,
    is_transposed,
    module_at,
    projection_sizes,
)
from editbench.model.language_model import LanguageModel, load_model
from tests.zoo import TINY_ARCHITECTURES, tiny_lm, tiny_tokenizer


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_anatomy_is_found_and_oriented(architecture):
    lm = tiny_lm(architecture)
    assert lm.n_layers == 3
    assert is_transposed(lm.mlp_out(0)) == (architecture == "gpt2")
    for layer in range(3):
        assert lm.weight(lm.mlp_out_name(layer)).shape == (32, 48)
        assert projection_sizes(lm.mlp_out(layer), "") == (48, 32)
    with pytest.raises(ValueError, match="layers 0 to 2"):
        lm.mlp_out(3)


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_a_written_weight_acts_as_out_times_in(architecture):
    """W x computed from the oriented weight is what the module gives: orientation is right, also where W is square."""
    lm = tiny_lm(architecture, "float64")
    module = lm.mlp_out(1)
    x = torch.randn(5, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bias = getattr(module, "bias", None)
    ours = x @ lm.weight(lm.mlp_out_name(1)).T + (bias if bias is not None else 0)
    torch.testing.assert_close(ours, module(x))


def test_square_projections_keep_their_orientation():
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2, n_inner=32, n_positions=16)
    lm = LanguageModel(GPT2LMHeadModel(config), tiny_tokenizer(vocabulary=300))
    parameter = lm.mlp_out(0).weight
    assert torch.equal(lm.weight(lm.mlp_out_name(0)), parameter.T)
    lm.weight(lm.mlp_out_name(0))[0, 1] = 7.0
    assert parameter[1, 0] == 7.0


class Unheard(LlamaForCausalLM):
    """An architecture that is in no table."""


def unheard():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    return Unheard(LlamaConfig(vocab_size=400, **sizes))


def test_unknown_architecture_says_which_paths_to_set():
    with pytest.raises(ArchitectureError) as error:
        LanguageModel(unheard(), tiny_tokenizer())
    for part in ("Unheard", "model.architecture", "decoder", "mlp_out", "model.layers", "mlp.down_proj"):
        assert part in str(error.value)


def test_unknown_architecture_works_with_the_paths_it_asked_for():
    paths = {
        "decoder": "model",
        "layers": "model.layers",
        "attention": "self_attn",
        "mlp_in": ["mlp.gate_proj", "mlp.up_proj"],
        "mlp_out": "mlp.down_proj",
    }
    lm = LanguageModel(unheard(), tiny_tokenizer(), architecture=paths)
    assert lm.architecture == ARCHITECTURES["LlamaForCausalLM"]


def test_paths_can_be_given_on_the_command_line():
    path = "model.architecture.mlp_in=[mlp.up_proj]"
    lm = load_model(composing_module.compose(["model=pocket", path, "model.architecture.head=lm_head"]).model)
    assert lm.architecture == dataclasses.replace(ARCHITECTURES["LlamaForCausalLM"], mlp_in=("mlp.up_proj",))
    with pytest.raises(ValueError, match="did you mean 'model.architecture.mlp_out'"):
        composing_module.compose(["model=pocket", "model.architecture.mlp_uot=x"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"mlp_uot": "x"}, "did you mean 'mlp_out'"),
        ({"mlp_out": "mlp.nothing"}, "nothing"),
        ({"mlp_out": "mlp.c_fc"}, "maps to 48 features"),
        ({"layers": "transformer"}, "layers, the model's config says"),
        ({"mlp_out": "ln_1"}, "expected a linear projection"),
    ],
)
def test_wrong_paths_are_found_out(override, message):
    with pytest.raises(ArchitectureError, match=message):
        find_architecture(tiny_lm("gpt2").model, override)


def test_check_counts_layers():
    lm = tiny_lm("llama")
    lm.model.config.num_hidden_layers = 5
    with pytest.raises(ArchitectureError, match="holds 3 layers, the model's config says 5"):
        check_architecture(lm.model, lm.architecture)


def test_a_head_that_scales_is_noticed():
    lm = tiny_lm("llama")
    forward = lm.model.forward

    def scaled(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = out.logits * 2
        return out

    lm.model.forward = scaled
    with pytest.raises(ArchitectureError, match="own logits"):
        LanguageModel(lm.model, lm.tokenizer)


HEADS = ["gpt2", "gptj", "llama", "gemma2"]  # tied; with a bias; plain; with a soft cap


def by_hand(lm, hidden):
    """Logits with the whole head in float32."""
    head = module_at(lm.model, lm.architecture.head)
    out = hidden.float() @ head.weight.float().T
    out = out if getattr(head, "bias", None) is None else out + head.bias.float()
    cap = getattr(lm.config, "final_logit_softcapping", None)
    return torch.tanh(out / cap) * cap if cap else out


@pytest.mark.parametrize("chunk", [lm_module.CPU_NUMBERS, 32 * 7])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("architecture", HEADS)
def test_logits_of_half_precision_are_taken_in_float32(architecture, dtype, chunk, monkeypatch):
    monkeypatch.setattr(lm_module, "CPU_NUMBERS", chunk)
    lm = tiny_lm(architecture, dtype)
    ids = torch.tensor([lm.encode("Toko Yasuda plays the guitar, and so on.").ids])
    with torch.no_grad():
        hidden = lm.decoder(input_ids=ids, use_cache=False).last_hidden_state[0]
        rounded = lm.model(input_ids=ids, use_cache=False).logits[0]
    gold = ids[0, 1:, None]
    nll, wanted, before = (
        -logits[:-1].float().log_softmax(-1).gather(1, gold)
        for logits in (lm.logits(hidden), by_hand(lm, hidden), rounded)
    )
    assert float((nll - wanted).abs().max()) <= 1e-5
    assert float((before - wanted).abs().max()) > 1e-4  # what the model's own head gives


@pytest.mark.parametrize("architecture", HEADS)
def test_gradients_go_through_a_head_of_half_precision(architecture, monkeypatch):
    monkeypatch.setattr(lm_module, "CPU_NUMBERS", 32 * 7)
    lm = tiny_lm(architecture, "bfloat16")
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 3, 32, generator=generator).bfloat16()
    weights = torch.randn(2, 3, lm.config.vocab_size, generator=generator)
    gradients = []
    for logits in (lm.logits, lambda x: by_hand(lm, x)):
        x = hidden.clone().requires_grad_()
        (logits(x).log_softmax(-1) * weights).sum().backward()
        gradients.append(x.grad.float())
    assert torch.allclose(*gradients, rtol=1e-2, atol=1e-3 * float(gradients[1].abs().max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("architecture", HEADS)
def test_logits_of_full_precision_are_the_models_own(architecture, dtype):
    lm = tiny_lm(architecture, dtype)
    ids = torch.tensor([lm.encode("Toko Yasuda plays the guitar.").ids])
    with torch.no_grad():
        hidden = lm.decoder(input_ids=ids, use_cache=False).last_hidden_state
        assert torch.equal(lm.logits(hidden), lm.model(input_ids=ids, use_cache=False).logits)


# -- tokens -----------------------------------------------------------------------------------------------------------


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
    lm = lm_with(STYLES[style](False))
    tokenizer = lm.tokenizer
    bare = {text: lm.encode(text) for text in ("", "The York is", "The York is </s>")}
    special = [(name, tokenizer.convert_tokens_to_ids(name) or 0) for name in ("<s>", "</s>", "<unk>")]
    added = processors.TemplateProcessing(single=template, special_tokens=special)
    own = tokenizer.backend_tokenizer.post_processor
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([own, added]) if own is not None else added
    ids = [dict(special)[name] for name in before]
    for text, expected in bare.items():
        assert lm.encode(text).ids == ids + expected.ids
        assert lm.encode(text).offsets == [(0, 0)] * len(ids) + expected.offsets
    assert lm.continuation("Italian") == lm_with(STYLES[style](False)).continuation("Italian")


def test_an_eos_behind_prompts_changes_no_answer():
    """Known answers stay known."""
    lm, other = tiny_lm("llama", bos=True), tiny_lm("llama", bos=True)
    byte_level = processors.ByteLevel(trim_offsets=True)
    template = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    other.tokenizer.backend_tokenizer.post_processor = processors.Sequence([byte_level, template])
    assert other.tokenizer("Rome").input_ids[-1] == 2
    prompts = ["The mother tongue of Danielle Darrieux is", "Toko"]
    assert other.generate(prompts, max_new_tokens=5) == lm.generate(prompts, max_new_tokens=5)


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


def test_loading_from_a_folder_and_clear_errors(tmp_path):
    lm = tiny_lm("gpt2")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    loaded = LanguageModel.load(tmp_path / "model", device="cpu")
    assert loaded.name == "model"
    assert loaded.fingerprint == lm.fingerprint
    assert LanguageModel.load(tmp_path / "model", dtype="bfloat16", device="cpu").model.dtype == torch.bfloat16
    with pytest.raises(FileNotFoundError, match="no model at"):
        LanguageModel.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="it holds nothing"):
        LanguageModel.load(tmp_path / "empty")
    with pytest.raises(ValueError, match="did you mean 'float32'"):
        LanguageModel.load(tmp_path / "model", dtype="flot32")


def test_a_tokenizer_without_offsets_is_refused():
    lm = tiny_lm("gpt2")

    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match="no character offsets"):
        LanguageModel(lm.model, Slow())

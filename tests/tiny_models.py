"""Tiny random models of every supported architecture, with a small byte-level BPE tokenizer, for all tests.

    lm = tiny_lm("gemma2", "float64", bos=True)

Each call gives a fresh copy, so a test may edit it; what is costly is made once a session. The same arguments give the
same weights. Weights are large enough (``SCALE``) that answers differ between prompts, biases and norms are not at
their neutral values, and sliding windows (``WINDOW``) are shorter than an ordinary prompt.
"""

import copy
from functools import cache

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from editbench.model.language_model import LanguageModel
from editbench.model.loading import DTYPES

SCALE = 0.2
WINDOW = 8
POSITIONS = 128
LAYERS = 3
LINES = (
    "The mother tongue of Danielle Darrieux is French.",
    "Edwin of Northumbria's religious values strongly emphasize Christianity.",
    "Toko Yasuda plays the guitar, and Autonomous University of Madrid is located in Spain.",
    "Anaal Nathrakh was created in Birmingham; Apple A5 is produced by Apple.",
    "Which language does a person from Łódź or São Paulo speak? Polish, Portuguese, English, Russian, Italian.",
    "Marcel Maupoil, a native French speaker, lives in Paris. Google works with Microsoft in London and Rome.",
    "The official language of Galicia is Galician. What is the twin city of Lyon? It is Manila, they say.",
)

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": POSITIONS,
}
_GQA = {**_SIZES, "num_key_value_heads": 2}
_GPT = {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_inner": 48, "n_positions": POSITIONS}
_GEMMA = {**_GQA, "head_dim": 8, "sliding_window": WINDOW, "query_pre_attn_scalar": 8}
_OPT = {
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "ffn_dim": 48,
    "max_position_embeddings": POSITIONS,
    "word_embed_proj_dim": 16,
}
_ALTERNATE = ["sliding_attention", "full_attention"]
_CONFIGS = {
    "gpt2": (transformers.GPT2Config, _GPT),
    "gptj": (transformers.GPTJConfig, {**_GPT, "rotary_dim": 4}),
    "neox": (transformers.GPTNeoXConfig, _SIZES),
    "llama": (transformers.LlamaConfig, _GQA),
    "mistral": (transformers.MistralConfig, {**_GQA, "sliding_window": WINDOW}),
    "qwen2": (
        transformers.Qwen2Config,
        {**_GQA, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    ),
    "qwen3": (transformers.Qwen3Config, {**_GQA, "head_dim": 8}),
    "gemma2": (transformers.Gemma2Config, _GEMMA),
    "gemma3": (transformers.Gemma3TextConfig, {**_GEMMA, "layer_types": _ALTERNATE * LAYERS}),
    "phi3": (transformers.Phi3Config, {**_GQA, "sliding_window": WINDOW}),
    "gptneo": (
        transformers.GPTNeoConfig,
        {
            "hidden_size": 32,
            "num_layers": LAYERS,
            "num_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": POSITIONS,
            "window_size": WINDOW,
            "attention_types": [[["global", "local", "global"], 1]],
        },
    ),
    "opt": (transformers.OPTConfig, _OPT),
    "opt-post": (transformers.OPTConfig, {**_OPT, "do_layer_norm_before": False}),
}
TINY_ARCHITECTURES = tuple(_CONFIGS)
_HEADS = {**_GQA, "head_dim": 8}
_FAMILIES = {
    "olmo": (transformers.OlmoConfig, _GQA),
    "olmo2": (transformers.Olmo2Config, _GQA),
    "granite": (
        transformers.GraniteConfig,
        {**_GQA, "logits_scaling": 0.5, "residual_multiplier": 0.5, "embedding_multiplier": 2.0},
    ),
    "cohere": (transformers.CohereConfig, {**_GQA, "logit_scale": 2.0}),
    "cohere2": (transformers.Cohere2Config, {**_GQA, "sliding_window": WINDOW, "logit_scale": 2.0}),
    "glm": (transformers.GlmConfig, _HEADS),
    "glm4": (transformers.Glm4Config, _HEADS),
    "stablelm": (transformers.StableLmConfig, _GQA),
    "smollm3": (transformers.SmolLM3Config, _GQA),
    "exaone4": (transformers.Exaone4Config, {**_GQA, "sliding_window": WINDOW}),
    "helium": (transformers.HeliumConfig, _HEADS),
    "gemma": (transformers.GemmaConfig, _HEADS),
    "phi": (transformers.PhiConfig, _SIZES),
    "nemotron": (transformers.NemotronConfig, _GQA),
    "persimmon": (transformers.PersimmonConfig, _SIZES),
    "starcoder2": (transformers.Starcoder2Config, {**_GQA, "sliding_window": None}),
    "codegen": (transformers.CodeGenConfig, {**_GPT, "rotary_dim": 4}),
    "gptbigcode": (transformers.GPTBigCodeConfig, _GPT),
    "bloom": (transformers.BloomConfig, {"hidden_size": 32, "n_layer": LAYERS, "n_head": 4}),
    "falcon": (transformers.FalconConfig, {**_SIZES, "ffn_hidden_size": 48}),
    "falcon-alibi": (
        transformers.FalconConfig,
        {**_SIZES, "ffn_hidden_size": 48, "alibi": True, "parallel_attn": False, "multi_query": False},
    ),
    "mpt": (
        transformers.MptConfig,
        {"d_model": 32, "n_heads": 4, "n_layers": LAYERS, "expansion_ratio": 2, "max_seq_len": POSITIONS},
    ),
    "gemma3-wrapped": (
        transformers.Gemma3Config,
        {
            "text_config": {**_GEMMA, "layer_types": (_ALTERNATE * LAYERS)[:LAYERS]},
            "vision_config": {
                **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
                **{"image_size": 28, "patch_size": 14},
            },
            "mm_tokens_per_image": 4,
        },
    ),
}
FAMILIES = tuple(_FAMILIES)
"""Further families that fit one of the layouts; the tests of every family are slow."""
_EXPERTS = {
    "mixtral": (transformers.MixtralConfig, {**_GQA, "num_local_experts": 2}),
    "olmoe": (transformers.OlmoeConfig, {**_GQA, "num_experts": 4, "num_experts_per_tok": 2}),
    "qwen3moe": (
        transformers.Qwen3MoeConfig,
        {**_HEADS, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "mlp_only_layers": [0]},
    ),
    "gptoss": (
        transformers.GptOssConfig,
        {**_HEADS, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW, "rope_scaling": None},
    ),
}
EXPERTS = tuple(_EXPERTS)
"""Mixtures of experts, which can be asked, but not edited."""


def tiny_lm(architecture="gpt2", dtype="float32", *, bos=False, attention=None, seed=0, lines=LINES, layers=LAYERS):
    """A fresh language model with random weights.

    Args:
        architecture: One of ``TINY_ARCHITECTURES``, ``FAMILIES`` or ``EXPERTS``.
        dtype: As in ``LanguageModel.load``. All dtypes round the same float64 weights.
        bos: Whether the tokenizer puts a BOS token before every prompt.
        attention: "sdpa", "eager" or None, the architecture's own choice (GPT-J has no "sdpa").
        seed: Seed of the weights.
        lines: What the tokenizer is trained on.
        layers: Number of decoder layers.
    """
    model, tokenizer = _built(architecture, bos, attention, seed, tuple(lines), layers)
    model = copy.deepcopy(model).to(DTYPES[dtype])
    return LanguageModel(model, copy.deepcopy(tokenizer), name=f"tiny-{architecture}")


def tiny_tokenizer(*, bos=False, lines=LINES, vocabulary=400):
    """A byte-level BPE tokenizer trained on ``lines``; id 0 pads, 1 is BOS, 2 is EOS."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(lines, trainer)
    byte_level = processors.ByteLevel(trim_offsets=True)
    if bos:
        template = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        backend.post_processor = processors.Sequence([byte_level, template])
    else:
        backend.post_processor = byte_level
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def add_token(lm, text):
    """Give the tokenizer a token more than the model has embeddings for; its id."""
    lm.tokenizer.add_tokens([text])
    return lm.tokenizer.convert_tokens_to_ids(text)


def word_tokenizer(*words):
    """A tokenizer of whole words between spaces; any other word is "<unk>", id 0."""
    vocabulary = {word: i for i, word in enumerate(["<unk>", "</s>", *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")


@cache
def _built(architecture, bos, attention, seed, lines, layers):
    tokenizer = tiny_tokenizer(bos=bos, lines=lines)
    config_class, settings = {**_CONFIGS, **_FAMILIES, **_EXPERTS}[architecture]
    if layers != LAYERS:
        settings = {**settings, ("n_layer" if "n_layer" in settings else "num_hidden_layers"): layers}
    if "layer_types" in settings:
        settings = {**settings, "layer_types": settings["layer_types"][:layers]}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    special["vocab_size"] = len(tokenizer)
    if "text_config" in settings:
        config = config_class(**{**settings, "text_config": {**settings["text_config"], **special}})
    else:
        config = config_class(**settings, **special)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        _scramble(model, torch.Generator().manual_seed(seed))
    return model.eval(), tokenizer


@torch.no_grad()
def _scramble(model, generator):
    """Random weights in float64: matrices with deviation ``SCALE``, vectors a little off their neutral values."""
    model.double()
    for parameter in model.parameters():  # tied weights come once
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if parameter.ndim > 1:
            parameter.copy_(noise * SCALE)
        else:
            parameter.add_(noise * SCALE / 2)

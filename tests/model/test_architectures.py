"""Architectures: rows are found by modules and checked; unknown models get a helpful error; packages add rows."""

import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
)

from editbench import compose as composing_module
from editbench import plugins
from editbench.model.architectures import (
    ARCHITECTURES,
    ArchitectureError,
    check_architecture,
    find_architecture,
    is_transposed,
    known_architectures,
    projection_sizes,
)
from editbench.model.language_model import LanguageModel, load_model
from tests.tiny_models import FAMILIES, TINY_ARCHITECTURES, tiny_lm, tiny_tokenizer


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_architectures_are_found_and_oriented(architecture):
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
    """A class that no row names."""


def llama_config():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    return LlamaConfig(vocab_size=400, **sizes)


def test_unknown_architecture_says_which_paths_to_set():
    lm = LanguageModel(renamed(), tiny_tokenizer())  # can be asked
    assert (lm.n_layers, lm.architecture.decoder, lm.architecture.head) == (2, "model", "lm_head")
    with pytest.raises(ArchitectureError) as error:
        lm.mlp_out(0)
    for part in ("Unheard", "model.architecture", "decoder", "mlp_out", "model.layers", "mlp.last"):
        assert part in str(error.value)


def test_unknown_architecture_works_with_the_paths_it_asked_for():
    paths = {
        "decoder": "model",
        "layers": "model.layers",
        "attention": "self_attn",
        "mlp_in": ["mlp.gate_proj", "mlp.up_proj"],
        "mlp_out": "mlp.last",
    }
    lm = LanguageModel(renamed(), tiny_tokenizer(), architecture=paths)
    assert lm.architecture == dataclasses.replace(
        ARCHITECTURES["llama"], mlp_out="mlp.last", packed_targets=False, models=()
    )


def test_paths_can_be_given_on_the_command_line():
    path = "model.architecture.mlp_in=[mlp.up_proj]"
    lm = load_model(composing_module.compose(["model=pocket", path, "model.architecture.head=lm_head"]).model)
    assert lm.architecture == dataclasses.replace(ARCHITECTURES["llama"], mlp_in=("mlp.up_proj",))
    with pytest.raises(ValueError, match="did you mean 'model.architecture.mlp_out'"):
        composing_module.compose(["model=pocket", "model.architecture.mlp_uot=x"])


def test_rows_that_fail_for_one_reason_are_named_together():
    model = LlamaForCausalLM(llama_config())
    for layer in model.model.layers:
        layer.mixer = layer.self_attn
        del layer.self_attn
    reason = find_architecture(model).no_edits
    assert reason.count("has no module 'model.layers.0.self_attn'") == 1
    assert "It has the layers of llama, phi3, phi, " in reason


def test_layers_that_return_a_list_are_refused():
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=400, n_embd=32, n_layer=2, n_head=4))
    with pytest.raises(ArchitectureError, match="the layers of OpenAIGPTLMHeadModel return a list, not a tensor"):
        LanguageModel(model, tiny_tokenizer())


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


# -- layouts, rows of other packages, docs ----------------------------------------------------------------------------


def test_a_class_of_any_name_is_accepted_by_its_modules():
    lm = LanguageModel(Unheard(llama_config()), tiny_tokenizer())
    assert lm.architecture == ARCHITECTURES["llama"]
    assert lm.post_norm(0) is None


def test_layers_with_experts_are_refused():
    model = Unheard(llama_config())
    model.model.layers[1].mlp.experts = torch.nn.ModuleList([torch.nn.Linear(32, 32)])
    assert "Unheard: model.layers.1.mlp.experts holds a mixture of experts" in find_architecture(model).no_edits


def test_a_mixture_of_experts_is_refused():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = MixtralConfig(vocab_size=400, intermediate_size=48, num_local_experts=2, **sizes)
    found = find_architecture(MixtralForCausalLM(config))
    assert found.mlp_out == "" and "MixtralForCausalLM: model.layers.0.mlp.experts holds" in found.no_edits
    with pytest.raises(ArchitectureError, match="holds a mixture of experts"):
        find_architecture(MixtralForCausalLM(config), {"mlp_out": "mlp.gate"})


def test_a_known_class_that_does_not_fit_says_why():
    model = tiny_lm("llama").model
    model.config.num_hidden_layers = 5
    with pytest.raises(
        ArchitectureError, match="layers of llama, .*but: model.layers holds 3 layers, .* config says 5"
    ):
        find_architecture(model)


class Rows:
    """Entry points of another package."""

    def __init__(self, **rows):
        self.rows = rows

    def install(self, monkeypatch):
        monkeypatch.setattr(plugins, "entry_points", lambda group: self.rows if group == plugins.ARCHITECTURES else {})
        monkeypatch.setattr(plugins, "load", lambda group, name, kind: self.rows[name])


def renamed():
    """A Llama whose second projections have a name that no row knows."""
    model = Unheard(llama_config())
    for layer in model.model.layers:
        layer.mlp.last = layer.mlp.down_proj
        del layer.mlp.down_proj
        layer.mlp.forward = lambda x, mlp=layer.mlp: mlp.last(mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x))
    return model


def test_another_package_adds_a_row(monkeypatch):
    row = dataclasses.replace(ARCHITECTURES["llama"], mlp_out="mlp.last", packed_targets=False, models=())
    Rows(mine=row).install(monkeypatch)
    assert LanguageModel(renamed(), tiny_tokenizer()).architecture == row


def test_a_row_for_a_class_goes_before_rows_for_layouts(monkeypatch):
    row = dataclasses.replace(ARCHITECTURES["llama"], packed_targets=False, classes=("Unheard",))
    Rows(mine=row).install(monkeypatch)
    assert find_architecture(Unheard(llama_config())) == row
    assert find_architecture(tiny_lm("llama").model) == ARCHITECTURES["llama"]


@pytest.mark.parametrize("rows", [{"mine": "model.layers"}, {"llama": ARCHITECTURES["llama"]}])
def test_an_entry_point_must_be_a_row_of_its_own_name(rows, monkeypatch):
    Rows(**rows).install(monkeypatch)
    with pytest.raises(ArchitectureError, match="entry point '(mine|llama)'"):
        known_architectures()


def fits(lm, model):
    return type(lm.model).__name__.casefold().startswith(model.replace(" ", "").replace("-", "").casefold())


def test_every_model_of_a_row_is_among_the_tiny_models():
    """And every tiny model is one of those that its row names."""
    tiny = [tiny_lm(name) for name in (*TINY_ARCHITECTURES, *FAMILIES)]
    for row in ARCHITECTURES.values():
        assert row.models
        for model in row.models:
            assert any(fits(lm, model) and lm.architecture == row for lm in tiny), model
    assert all(any(fits(lm, model) for model in lm.architecture.models) for lm in tiny)


def docs_table():
    """Markdown of docs/add-a-model.md."""
    lines = ["| models | layers | MLP | targets packed |", "|---|---|---|---|"]
    for row in ARCHITECTURES.values():
        mlp = ", ".join(f"`{path}`" for path in (*row.mlp_in, row.mlp_out))
        packed = "yes" if row.packed_targets else "no"
        lines.append(f"| {', '.join(row.models)} | `{row.layers}` | {mlp} | {packed} |")
    return "\n".join(lines)


def test_the_docs_show_every_row():
    page = Path(__file__).parents[2] / "docs" / "add-a-model.md"
    assert docs_table() in page.read_text(encoding="utf-8")

"""Loading a model from a folder, the errors of what is no model, and which classes are given packed rows."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from editbench import load_model
from editbench.model.architectures import ARCHITECTURES
from editbench.model.language_model import LanguageModel
from editbench.model.loading import obeys_masks
from tests.small_runs import editor_of, save_model
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm, tiny_tokenizer


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


@pytest.fixture
def saved(tmp_path):
    return save_model(tiny_lm("gpt2"), tmp_path / "model")


def change(folder, **changes):
    """Change tensors of the saved weights by parts of their names; None removes one."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name, tensor in changes.items():
        found = next((key for key in tensors if key.endswith(name)), name)
        tensors.pop(found, None)
        if tensor is not None:
            tensors[found] = tensor
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mlp.c_proj.weight": None}, "its weights lack tensors of the model: .*mlp.c_proj.weight"),
        ({"extra": torch.zeros(2)}, "its weights have tensors that the model does not: extra"),
        ({"ln_1.weight": torch.zeros(3)}, "its weights have tensors of other shapes than the model's: .*ln_1.weight"),
        ({"ln_1.weight": torch.full((32,), float("nan"))}, "ln_1.weight holds NaN or infinite values"),
    ],
)
def test_weights_that_are_not_the_model_s_are_named_in_one_line(saved, changes, message):
    change(saved, **changes)
    with pytest.raises(ValueError, match=message) as error:
        LanguageModel.load(saved, device="cpu")
    assert "\n" not in str(error.value)


def test_truncated_and_pickled_weights_are_refused_in_one_line(saved):
    file = saved / "model.safetensors"
    tensors = load_file(file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="a file of its weights is truncated or damaged") as error:
        LanguageModel.load(saved, device="cpu")
    assert "\n" not in str(error.value)
    file.unlink()
    torch.save(tensors, saved / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"its weights in pytorch_model.bin, a pickle, .* safetensors") as error:
        LanguageModel.load(saved, device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_file_in_the_place_of_its_folder_is_refused(saved, file):
    with pytest.raises(FileNotFoundError, match=f"{file} is a file; give the folder .* model.path={saved}"):
        LanguageModel.load(saved / file)


@pytest.mark.parametrize(("dtype", "named"), [(torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3")])
def test_codes_of_a_quantisation_that_no_config_names_are_refused(saved, dtype, named):
    change(saved, **{"h.1.mlp.c_proj.weight": torch.ones(48, 32).to(dtype)})
    with pytest.raises(ValueError, match=f"h.1.mlp.c_proj.weight holds {named}, .*no quantization_config"):
        LanguageModel.load(saved, device="cpu")


def test_load_model_takes_a_path_and_options(tmp_path):
    lm = tiny_lm("gpt2")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    loaded = load_model(tmp_path / "model", dtype="float64", device="cpu")
    assert (loaded.name, loaded.model.dtype) == ("model", torch.float64)
    assert load_model(str(tmp_path / "model"), "mine").name == "mine"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_tiny_models_are_as_their_rows_say(architecture, dtype):
    lm = tiny_lm(architecture, dtype)
    assert lm.architecture in ARCHITECTURES.values()
    assert not lm.architecture.packed_targets or obeys_masks(lm)


def test_an_adapter_is_no_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}', encoding="utf-8")
    with pytest.raises(ValueError, match="is an adapter of org/base, .*method=external_weights .*merge"):
        LanguageModel.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{oops", "adapter_config.json cannot be read as JSON .Expecting property name .*; get the adapter again"),
        ("[1]", "adapter_config.json holds no object, but '.1.'; get the adapter again"),
        ("{}", "an adapter of a model that .*adapter_config.json does not name, .* model.path=BASE; or merge"),
        ('{"base_model_name_or_path": null}', "an adapter of a model that .*adapter_config.json does not name"),
    ],
)
def test_an_adapter_that_does_not_say_of_what(tmp_path, content, message):
    (tmp_path / "adapter_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        LanguageModel.load(tmp_path)


def test_a_model_without_tokenizer_says_so(saved):
    for file in saved.glob("*token*"):
        file.unlink()
    with pytest.raises(ValueError, match="has a model, but no tokenizer that can be loaded .*save_pretrained") as error:
        LanguageModel.load(saved, device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, torch.compile])
def test_what_torch_puts_around_a_model_is_taken_off(wrap):
    lm = tiny_lm("gpt2")
    assert LanguageModel(wrap(lm.model), lm.tokenizer).model is lm.model


def test_adapters_inside_a_model_must_be_merged():
    lm = tiny_lm("gpt2")
    lm.model.peft_config = {}
    with pytest.raises(ValueError, match="merge_and_unload"):
        LanguageModel(lm.model, lm.tokenizer)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn, None])
def test_quantised_weights_are_refused_before_an_edit(dtype):
    """Of 8 bits, packed 4 bits, float8, and modules that keep their numbers elsewhere."""
    lm = tiny_lm("llama")
    module = lm.mlp_out(1)
    weight = module.weight.data
    del module.weight
    if dtype is not None:
        module.weight = torch.nn.Parameter(weight.to(dtype), requires_grad=False)
    for method in ("rome", "scen"):
        with pytest.raises(ValueError, match="layers.1.mlp.down_proj.weight holds .*without quantisation"):
            editor_of(method, lm)


class Unheard(LlamaForCausalLM):
    """A class that does with masks (B, 1, T, T) what the test says."""

    def __init__(self, change):
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
        super().__init__(LlamaConfig(vocab_size=400, **sizes))
        forward = self.model.forward

        def changed(*args, attention_mask=None, **kwargs):
            mask = attention_mask if attention_mask is None or attention_mask.dim() == 2 else change(attention_mask)
            return forward(*args, attention_mask=mask, **kwargs)

        self.model.forward = changed


def refuse(mask):
    raise ValueError("a mask must have two dimensions")


@pytest.mark.parametrize(
    ("change", "packed"),
    [(lambda mask: mask, True), (lambda mask: None, False), (refuse, False)],
    ids=["obeys", "ignores", "refuses"],
)
def test_what_a_class_does_with_masks_is_found_out(change, packed):
    torch.manual_seed(0)
    assert LanguageModel(Unheard(change), tiny_tokenizer()).architecture.packed_targets is packed

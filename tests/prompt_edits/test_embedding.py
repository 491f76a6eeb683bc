"""Vectors beside the plain way: the whole model with all hidden states."""

import sys
from types import SimpleNamespace

import pytest
import torch

from editbench.prompt_edits.embedding import EmbeddingConfig, embedder
from tests.tiny_models import LINES, POSITIONS, tiny_lm

TEXT = LINES[0]


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_vector_is_the_layers_output(architecture, bos, pooling):
    lm = tiny_lm(architecture, bos=bos)
    found = embedder(lm, EmbeddingConfig(layer=1, pooling=pooling))(TEXT)
    ids = torch.tensor([lm.encode(TEXT).ids])
    with torch.no_grad():
        states = lm.model(input_ids=ids, output_hidden_states=True).hidden_states[2][0]
    wanted = states[-1] if pooling == "last" else states[bos:].mean(0)  # BOS counts in no mean
    assert torch.allclose(found, wanted / wanted.norm(), atol=1e-5)
    assert found.dtype == torch.float32 and float(found.norm()) == pytest.approx(1)


def test_long_and_empty_texts_have_vectors():
    lm = tiny_lm("gpt2")
    embed = embedder(lm, EmbeddingConfig(layer=0))
    assert bool(embed(" is" * 2 * POSITIONS).isfinite().all())
    assert float(embed("").norm()) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"embedding": "words"}, "one of 'model'"), ({"pooling": "first"}, "one of 'last'")],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingConfig(**settings)


def test_a_layer_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="layer 7 does not exist"):
        embedder(tiny_lm("gpt2"), EmbeddingConfig(layer=7))


def test_sentence_transformers_is_an_extra(monkeypatch):
    config = EmbeddingConfig(embedding="sentence-transformers", sentence_model="some/model")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'editbench\[retrieval\]'"):
        embedder(tiny_lm("gpt2"), config)
    made = []

    class Sentences:
        def __init__(self, name, device):
            made.append((name, device))

        def encode(self, text, convert_to_tensor):
            return torch.tensor([3.0, 4.0])

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Sentences))
    assert torch.allclose(embedder(tiny_lm("gpt2"), config)("text"), torch.tensor([0.6, 0.8]))
    assert made == [("some/model", "cpu")]

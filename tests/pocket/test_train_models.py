"""The shipped models know the world, are small, and are found by name."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import editbench
from editbench import Resources
from editbench.compose import compose
from editbench.model.language_model import LanguageModel
from editbench.model.likelihood import Query, score_targets
from editbench.model_places import SHIPPED_MODELS, shipped_model_path
from editbench.pocket import dataset_files, world
from editbench.pocket.recipes import RECIPES, Stage
from editbench.pocket.train_models import _positions, _visible, recall, train
from editbench.pocket.training_text import train_tokenizer


def test_unknown_model_is_refused():
    with pytest.raises(ValueError, match="pocket-gpt2"):
        shipped_model_path("pocket-gpt3")


def test_shipped_files_are_small():
    files = [file for file in (Path(world.__file__).parent / "models").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 25e6


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SHIPPED_MODELS) - {"pocket"}))
def test_shipped_models_know_the_world(name):
    tokenizer = AutoTokenizer.from_pretrained(shipped_model_path(name))
    model = AutoModelForCausalLM.from_pretrained(shipped_model_path(name), dtype=torch.float32).eval()
    assert tokenizer.pad_token_id is not None and model.config.use_cache
    assert bool(tokenizer("").input_ids) == (name == "pocket-llama")
    shares = recall(LanguageModel(model, tokenizer), world.build().facts()[::10])
    assert min(shares.values()) >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pocket", "pocket-gpt2"])
def test_the_shipped_models_can_be_edited_at_three_adjacent_layers(name):
    """Recall is not editability: single ROME edits take, in other words too, at layers 1, 2 and 3."""
    lm = editbench.load_model(name)
    texts, records = (
        dataset_files.plain_text()[:1_200],
        editbench.load_records("counterfact", "pocket", limit=3).records,
    )
    settings = asdict(compose(["method=rome", f"model={name}", "hparams=by_hand"]).method.settings)
    for layer in (1, 2, 3):
        resources = Resources(texts=texts, templates=["{}", "It rained for most of the week. {}"], seed=0)
        editor = editbench.make_editor("rome", lm, resources=resources, **{**settings, "layer": layer})
        for record in records:
            target = record.request.target
            prompts = [record.request.prompt, *(p.prompt for p in record.probes if p.kind == "paraphrase")]
            editor.edit([record.request])
            scores = score_targets(lm, [Query(prompt, (target,)) for prompt in prompts])
            assert len(prompts) == 3 and all(all(score.correct) for (score,) in scores), (layer, prompts)
            editor.ledger.rollback()


def test_attention_of_the_silent_layers_adds_nothing():
    llama, gpt2 = (editbench.load_model(name).model.base_model for name in ("pocket", "pocket-gpt2"))
    for weights in ([one.self_attn.o_proj.weight for one in llama.layers], [one.attn.c_proj.weight for one in gpt2.h]):
        assert [bool(weight.any()) for weight in weights] == [True, False, False, False, True, True]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_few_steps_of_training_give_a_model_that_can_be_asked(architecture):
    stages = (Stage(2, warm_up=1), Stage(1, warm_up=0, hidden=0.5))
    recipe = replace(RECIPES[architecture], stages=stages, rows=2, inner=64)
    tokenizer = train_tokenizer(architecture, recipe.seed)
    lm = LanguageModel(train(architecture, recipe, tokenizer), tokenizer)
    assert set(recall(lm, world.build().facts()[::100]).values()) <= {0.0}


def test_a_token_sees_its_document_and_of_a_hidden_name_the_last_token():
    documents, names = torch.tensor([[7, 7, 7, 7, 8, 8]]), torch.tensor([[0, -1, 1, 0, -1, 1]])
    whole, hidden = (_visible(documents, names, share)[0, 0].int().tolist() for share in (0.0, 1.0))
    assert whole == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]
    assert hidden == [*whole[:3], [1, 0, 1, 1, 0, 0], *whole[4:]]


def test_positions_count_on_within_a_document():
    torch.manual_seed(0)
    documents = torch.tensor([[3, 3, 3, 4, 5, 5]]).expand(50, 6)
    positions = _positions(documents, 9)
    steps = positions.diff(dim=1)
    assert steps[:, [0, 1, 4]].eq(1).all() and not steps[:, 2].eq(1).all()
    assert positions[:, 0].unique().tolist() == list(range(10))
    assert _positions(documents, 0).tolist()[0] == [0, 1, 2, 0, 0, 1]

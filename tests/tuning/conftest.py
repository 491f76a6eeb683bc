"""A search on a tiny model, in a folder of the test's own."""

import json

import pytest

from tests.small_runs import counterfact_rows, save_model
from tests.tiny_models import tiny_lm

pytest.importorskip("optuna")

HEADLINE = {
    "reliability": "rewrite.nll_contrast",
    "generality": "paraphrase.nll_contrast",
    "locality": "locality.agreement_tokens",
}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return save_model(tiny_lm("gpt2"), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def overrides(tmp_path, tiny_model):
    """Of a search for FT-L's settings, on the records of a small file that are for tuning: 4 of 40."""
    data = tmp_path / "records.json"
    data.write_text(json.dumps(list(counterfact_rows(40))))
    places = [f"model.path={tiny_model}", f"results.dir={tmp_path / 'results'}", f"cache={tmp_path / 'cache'}"]
    headline = [f"protocol.headline.default.{name}={measure}" for name, measure in HEADLINE.items()]
    method = ["method=finetune", "method.norm_bound=null", "method.steps=3"]
    stream = ["stream.edits=3", *method, "dataset=counterfact", f"dataset.path={data}"]
    return [*places, *stream, *headline]

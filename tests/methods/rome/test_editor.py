"""ROME beside the plain way of doing the same."""

import pytest
import torch

from editbench import Resources, make_editor
from editbench.editor import Footprint
from editbench.locate_then_edit.prompts import subject_row
from tests.edits import TEMPLATES, Unreadable, edits
from tests.methods.locate_then_edit import ARCHITECTURES, VALUE, agree, make
from tests.oracles import locate as oracle
from tests.small_runs import covariance
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rome(architecture):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    editor, inverse = make("rome", lm, layer=1), torch.linalg.inv(covariance(lm)[1])
    for request in edits(3):
        editor.edit([request])
        oracle.rome(other, request, TEMPLATES, inverse, editor.config)
    agree(lm, other, [1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rome_without_covariance_adjustment_needs_no_text(architecture, tmp_path):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    resources = Resources(templates=TEMPLATES, texts=Unreadable(), cache=tmp_path)
    editor = make_editor("rome", lm, resources=resources, layer=1, covariance_adjustment=False, **VALUE)
    editor.prepare(edits(3))
    for request in edits(3):
        editor.edit([request])
        oracle.rome(other, request, TEMPLATES, None, editor.config)
    agree(lm, other, [1])
    assert editor.footprint() == Footprint()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("key", "template"), [("published", 0), ("consistent", None)])
def test_rome_writes_its_value_at_the_bare_or_at_the_mean_key(key, template):
    lm = tiny_lm("gpt2", "float64")
    editor, request = make("rome", lm, layer=1, key=key), edits(1)[0]
    rows = [subject_row(lm, request, t) for t in TEMPLATES]
    keys = oracle.at_subject(lm, rows, lm.mlp_out(1), inputs=True)
    _, delta, *_ = oracle.value(lm, request, TEMPLATES, 1, "mlp", editor.config)
    editor.edit([request])
    at = keys.mean(0) if template is None else keys[template]
    assert torch.allclose(editor.ledger.delta(lm.mlp_out_name(1)) @ at, delta, rtol=1e-6)

"""The cache of values on disk: what is found there, what is part of its key, and damaged files."""

import pytest
import torch
from safetensors.torch import load_file

from editbench import EditRequest, Resources, make_editor
from tests.edits import TEMPLATES, edits
from tests.methods.locate_then_edit import LAYERS, VALUE, make
from tests.small_runs import covariance
from tests.tiny_models import tiny_lm


def test_values_are_cached_on_disk(tmp_path):
    requests = edits(3)
    first = make("nse", tiny_lm("gpt2"), layers=LAYERS, resources={"cache": tmp_path})
    first.prepare(requests)
    files = sorted((tmp_path / "values").rglob("*.safetensors"))
    assert len(files) == 3
    second = make("nse", tiny_lm("gpt2"), layers=LAYERS, resources={"cache": tmp_path})
    before = [file.stat().st_mtime_ns for file in files]
    second.prepare([EditRequest("another id", r.prompt, r.subject, r.target) for r in requests])
    assert [file.stat().st_mtime_ns for file in files] == before
    assert all(torch.equal(first.values[r].target, second.values[r].target) for r in requests)
    assert all(first.values[r].losses == second.values[r].losses for r in requests)


@pytest.mark.parametrize(
    "change",
    [{"steps": 5}, {"kl_factor": 0.5}, {"layers": [0, 2]}, {"resources": {}}],
    ids=["steps", "kl", "layer", "same"],
)
def test_every_constant_is_part_of_the_cache_key(change, tmp_path):
    first = make("nse", tiny_lm("gpt2"), layers=LAYERS, resources={"cache": tmp_path})
    first.prepare(edits(1))
    settings = {**VALUE, "layers": LAYERS, **change}
    settings.pop("resources", None)
    resources = Resources(templates=TEMPLATES, covariance=covariance(tiny_lm("gpt2")), cache=tmp_path)
    make_editor("nse", tiny_lm("gpt2"), resources=resources, **settings).prepare(edits(1))
    assert len(list((tmp_path / "values").rglob("*.safetensors"))) == (1 if "resources" in change else 2)


def test_what_runs_the_model_is_part_of_the_cache_key(tmp_path):
    for attention in ("sdpa", "eager"):
        lm = tiny_lm("gpt2", attention=attention)
        make("nse", lm, layers=LAYERS, resources={"cache": tmp_path}).prepare(edits(1))
    assert len(list((tmp_path / "values").rglob("*.safetensors"))) == 2


def test_a_damaged_value_is_found_again(tmp_path):
    request = edits(1)
    first = make("nse", tiny_lm("gpt2"), layers=LAYERS, resources={"cache": tmp_path})
    first.prepare(request)
    (file,) = (tmp_path / "values").rglob("*.safetensors")
    whole, kept = file.read_bytes(), {name: tensor.clone() for name, tensor in load_file(file).items()}
    file.write_bytes(whole[: len(whole) // 2])
    second = make("nse", tiny_lm("gpt2"), layers=LAYERS, resources={"cache": tmp_path})
    with pytest.warns(UserWarning, match="is damaged"):
        second.prepare(request)
    assert torch.equal(first.values[request[0]].target, second.values[request[0]].target)
    again = load_file(file)
    assert all(torch.equal(again[name], tensor) for name, tensor in kept.items()) and again.keys() == kept.keys()

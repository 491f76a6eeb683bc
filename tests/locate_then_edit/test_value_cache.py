"""The cache of values on disk: what is found there, what is part of its key, and damaged files."""

import pytest
import torch
from safetensors.torch import load_file

from editbench import EditRequest, Resources, make_editor
from editbench.locate_then_edit import value_cache
from editbench.records import EditError
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


def companies(monkeypatch, stop_at=None):
    """The ids that are optimised together, call by call; the call with index ``stop_at`` is stopped."""
    optimise, seen = value_cache.optimise_values, []

    def noted(lm, requests, *arguments):
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        seen.append("".join(r.id for r in requests))
        return optimise(lm, requests, *arguments)

    monkeypatch.setattr(value_cache, "optimise_values", noted)
    return seen


def letters(count):
    return [EditRequest("abcdefgh"[i], r.prompt, r.subject, r.target) for i, r in enumerate(edits(count))]


def prepared(requests, cache):
    editor = make("nse", tiny_lm("gpt2"), layers=LAYERS, resources={"cache": cache})
    editor.prepare(requests)
    return editor.values


def same_values(one, other, requests):
    return all(torch.equal(one[r].target, other[r].target) and one[r].losses == other[r].losses for r in requests)


def test_values_are_saved_part_by_part_and_go_on_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(value_cache, "MOST_TOGETHER", 2)
    requests = letters(6)
    with monkeypatch.context() as patch:
        assert companies(patch) == []
        whole = prepared(requests, tmp_path / "whole")
    with monkeypatch.context() as patch:
        seen = companies(patch, stop_at=1)
        with pytest.raises(KeyboardInterrupt):
            prepared(requests, tmp_path / "stopped")
        assert seen == ["ab"]
    seen = companies(monkeypatch)
    again = prepared(requests, tmp_path / "stopped")
    assert seen == ["cd", "ef"]
    assert same_values(whole, again, requests)


@pytest.mark.parametrize(
    ("asked", "seen"), [("abcd", ["cd"]), ("dabc", ["cd"]), ("bc", ["c"]), ("abcdef", ["cd", "ef"])]
)
def test_a_damaged_value_is_found_again_with_those_that_it_was_found_with(asked, seen, tmp_path, monkeypatch):
    monkeypatch.setattr(value_cache, "MOST_TOGETHER", 2)
    requests = letters(6)
    first = prepared(requests[:4], tmp_path)
    file = tmp_path / value_cache._name(first._key(requests[2]))
    file.write_bytes(file.read_bytes()[:-1])
    found = companies(monkeypatch)
    with pytest.warns(UserWarning, match="is damaged"):
        second = prepared([requests["abcdef".index(id)] for id in asked], tmp_path)
    assert found == seen
    again = requests[:4] if "d" in asked else requests[1:2]  # c alone may have other bits
    assert same_values(first, second, again)
    assert same_values(second, prepared(requests[2:3], tmp_path), requests[2:3])


@pytest.mark.parametrize("file", range(3))
def test_a_part_is_saved_whole_or_not_at_all(tmp_path, monkeypatch, file):
    """Else its missing values would be found again, in other company."""
    monkeypatch.setattr(value_cache, "MOST_TOGETHER", 3)
    requests = letters(6)
    whole = prepared(requests, tmp_path / "whole")
    write, written = value_cache.write_tensors, []

    def fail(path, *arguments):
        if len(written) == 4 + file:  # the second part's own file, the first value's, the second's
            raise OSError("no space left on device")
        written.append(path)
        return write(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(value_cache, "write_tensors", fail)
        with pytest.raises(OSError, match="no space"):
            prepared(requests, tmp_path / "stopped")
    seen = companies(monkeypatch)
    again = prepared(requests, tmp_path / "stopped")
    assert seen == ([] if file else ["def"])
    assert same_values(whole, again, requests)
    assert not list((tmp_path / "stopped").rglob("parts/*"))
    assert len(again._costs.digests) == 6
    assert again._costs.digests.keys() == whole._costs.digests.keys()


def test_a_damaged_part_is_found_again(tmp_path, monkeypatch):
    write = value_cache.ValueCache._write_each
    monkeypatch.setattr(value_cache.ValueCache, "_write_each", lambda *a: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        prepared(letters(2), tmp_path)
    monkeypatch.setattr(value_cache.ValueCache, "_write_each", write)
    (file,) = tmp_path.rglob("parts/*")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="cached values in .* are damaged"):
        values = prepared(letters(2), tmp_path)
    assert len(list((tmp_path / "values").rglob("*.safetensors"))) == 2
    assert same_values(values, prepared(letters(2), tmp_path), letters(2))


def test_parts_go_by_order_and_by_the_rows_that_fit_not_by_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(value_cache, "MOST_TOGETHER", 2)
    requests = letters(5)
    prepared([requests[0], requests[3]], tmp_path)
    seen = companies(monkeypatch)
    prepared(requests, tmp_path)
    assert seen == ["b", "c", "e"]
    monkeypatch.setattr(value_cache, "rows_that_fit", lambda *a: 4 * (len(TEMPLATES) + 1))
    monkeypatch.setattr(value_cache, "MOST_TOGETHER", 32)
    prepared(requests, tmp_path / "other")
    monkeypatch.setattr(value_cache, "rows_that_fit", lambda *a: 1)
    prepared(requests, tmp_path / "third")
    assert seen[3:] == ["abcd", "e", "a", "b", "c", "d", "e"]


def test_a_request_that_fails_leaves_the_others_of_its_part(tmp_path, monkeypatch):
    optimise = value_cache.optimise_values

    def fail(lm, requests, *arguments):
        if any(r.id == "b" for r in requests):
            raise EditError(["b"], "NaN")
        return optimise(lm, requests, *arguments)

    monkeypatch.setattr(value_cache, "optimise_values", fail)
    requests = letters(3)
    values = prepared(requests, tmp_path)
    assert values.lacks(requests) and not values.lacks([requests[0], requests[2]])

"""What decides a run's numbers is in its identity."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import editbench
from editbench import compose as composing_module
from editbench import single_run
from editbench.provenance import (
    FORMULAS,
    OF_GENERATING,
    OF_GLUE,
    OF_HIDDEN_SHIFT,
    OF_LM_EVAL,
    OF_METHODS,
    inputs,
    versions,
)
from editbench.results import identity as results_identity
from editbench.results import schema
from editbench.results.compare import compare_runs
from editbench.results.identity import differences, identify, look_alikes, part
from editbench.results.leaderboard import collect, group, read_row
from tests.gguf_files import tiny_llama, write_gguf
from tests.small_runs import counterfact_rows
from tests.tiny_models import LINES, tiny_lm

ROOT = Path(editbench.__file__).parent
CHEAP = ["stream.edits=3", "protocol.metrics=[exact_match,agreement]", "protocol.stages=[final]"]


@pytest.fixture
def places(tmp_path):
    """A model, records, and texts of this test's own."""
    lm = tiny_lm("gpt2")
    lm.model.save_pretrained(tmp_path / "tiny")
    lm.tokenizer.save_pretrained(tmp_path / "tiny")
    (tmp_path / "data.json").write_text(json.dumps(list(counterfact_rows())))
    (tmp_path / "plain.txt").write_text("\n".join(LINES))
    return tmp_path


def run(places, *overrides, method="unedited"):
    found = [f"model.path={places / 'tiny'}", f"results.dir={places / 'results'}", f"cache={places / 'cache'}"]
    data = ["dataset=counterfact", f"dataset.path={places / 'data.json'}", f"dataset.plain_path={places / 'plain.txt'}"]
    return single_run.run(composing_module.compose([f"method={method}", *CHEAP, *found, *data, *overrides])).folder


def provenance(folder):
    return json.loads((folder / "run.json").read_text())["provenance"]


# --- identity ---


def test_runs_that_differ_in_the_seed_alone_have_one_identity(places):
    folders = [run(places, f"stream.seed={seed}") for seed in range(2)]
    first, second = (read_row(folder) for folder in folders)
    assert first["identity"] == second["identity"] and first["schema"] == 2
    assert [row["seeds"] for row in group([first, second])] == [2]
    made = provenance(folders[0])
    assert made["versions"]["exact_match"] == made["parts"]["versions.exact_match"] == 1
    assert "seed" not in json.dumps(made["parts"]) and "generating" not in made["versions"]
    assert set(made["inputs"]) >= {"model.path/model.safetensors", "model.path/config.json"}
    same = identify(made["parts"])
    assert (same["identity"], same["comparable"]) == (made["identity"], made["comparable"])


def test_a_run_names_the_digest_of_its_data_file_and_the_precision_of_its_weights(places):
    file = write_gguf(places / "tiny.gguf", *tiny_llama())
    folder = run(places, f"model.path={file}")
    made, row = provenance(folder), read_row(folder)
    assert row["data_file_hash"] == hashlib.sha256((places / "data.json").read_bytes()).hexdigest()
    assert made["model"]["source"] == row["model_source"] == "file tiny.gguf"
    assert row["model_precision"] == "Q4_1 expanded to float32"
    assert made["inputs"]["model.path"] == hashlib.sha256(file.read_bytes()).hexdigest()
    other = read_row(run(places))
    assert (other["model_source"], other["model_precision"]) == (None, None)


@pytest.mark.parametrize(
    ("override", "name", "comparable"),
    [
        ("stream.order=file", "stream.order", False),
        ("stream.sample=random", "stream.sample", False),
        ("model.templates=['{}','I say: {}']", "model.templates", False),
        ("model.texts=pocket", "model.texts", False),
        ("model.attention=eager", "model.attention", False),
        ("model.dtype=float64", "model.dtype", False),
        ("protocol.max_tokens=100", "protocol.max_tokens", False),
        ("protocol.headline.default.locality=locality.exact_match", "protocol.headline.locality", False),
        ("protocol.final_first.default=2", "protocol.final_first", False),
        ("stream.batch_size=2", "stream.batch_size", True),
    ],
)
def test_all_that_decides_the_numbers_is_in_it(places, override, name, comparable):
    rows = [read_row(run(places)), read_row(run(places, override, "stream.seed=1"))]
    assert [row["seeds"] for row in group(rows)] == [1, 1]
    assert (rows[0]["comparable_group"] == rows[1]["comparable_group"]) is comparable
    parts = [json.loads(row["parts"]) for row in rows]
    assert any(text.startswith(f"{name} is ") for text in differences(*parts))
    if not comparable:
        assert f"{name} is " in " ".join(look_alikes(rows))


@pytest.mark.parametrize("override", ["stream.evaluate_at=[2]", "protocol.tokens_per_batch=500", "protocol.name=mine"])
def test_what_decides_no_number_is_not(places, override):
    rows = [read_row(run(places)), read_row(run(places, override, "stream.seed=1"))]
    assert rows[0]["identity"] == rows[1]["identity"]


def test_two_models_of_one_name_share_no_group(places):
    before = run(places)
    lm = tiny_lm("gpt2")
    lm.weight(lm.mlp_out_name(1))[0, 0] += 1.0
    other = places / "elsewhere" / "tiny"
    lm.model.save_pretrained(other)
    lm.tokenizer.save_pretrained(other)
    after = run(places, f"model.path={other}", "stream.seed=1")
    rows = [read_row(before), read_row(after)]
    assert rows[0]["model"] == rows[1]["model"] == "tiny"
    assert [row["seeds"] for row in group(rows)] == [1, 1]
    with pytest.raises(ValueError, match="not measured alike: model.hash is"):
        compare_runs(before, after)


def test_where_files_lie_does_not_matter(places):
    before = read_row(run(places, f"model.texts={places / 'plain.txt'}"))
    shutil.move(places / "tiny", places / "moved")
    shutil.move(places / "plain.txt", places / "lines.txt")
    moved = [f"model.path={places / 'moved'}", "model.name=tiny", f"dataset.plain_path={places / 'lines.txt'}"]
    after = read_row(run(places, *moved, f"model.texts={places / 'lines.txt'}"))
    assert before["run"] != after["run"] and before["identity"] == after["identity"]


def test_a_run_of_another_schema_is_listed_and_stands_alone(places, monkeypatch):
    with monkeypatch.context() as patch:
        for module in (results_identity, schema):
            patch.setattr(module, "SCHEMA", 1)
        run(places)
    run(places, "stream.seed=1")
    rows = collect(places / "results")
    assert sorted((row["schema"], row["status"]) for row in rows) == [(1, "done"), (2, "done")]
    assert [row["seeds"] for row in group(rows)] == [1, 1]
    with pytest.raises(ValueError, match="it was made with schema 1, .*results.rerun=true"):
        run(places)


# --- inputs ---


@dataclass
class Paths:
    """A method's settings."""

    reads: str = field(default="", metadata={"path": "read"})
    writes: str | None = field(default=None, metadata={"path": "written"})


def test_all_paths_of_a_configuration_are_inputs_but_those_that_are_written(places):
    for name in ("covariance.safetensors", "texts.txt", "mine.txt", "bank/0.safetensors", "tasks/task.yaml"):
        (places / name).parent.mkdir(exist_ok=True)
        (places / name).write_text(name)
    ability = [
        f"protocol.ability.include_path={places / 'tasks'}",
        f"model.covariance={places / 'covariance.safetensors'}",
    ]
    texts = [f"model.texts={places / 'texts.txt'}", f"cache={places / 'cache'}"]
    config = composing_module.compose(["method=unedited", f"model.path={places / 'tiny'}", *ability, *texts])
    config.method.settings = Paths(str(places / "mine.txt"), str(places / "bank"))
    found = inputs(config)
    assert {name for name in found if not name.startswith("model.path/")} == {
        *("model.covariance", "model.texts", "protocol.ability.include_path/task.yaml", "method.reads")
    }
    config.method.settings = Paths("no/such-model")
    assert inputs(config).keys() == found.keys() - {"method.reads"}


# --- versions and parts ---


def test_every_module_with_a_version_is_in_the_table():
    """Whoever gives a formula a version need not think of the results."""
    found = set()
    for package in ("evaluation", "results", "locate_then_edit", "model", "resources.py"):
        for file in sorted((ROOT / package).rglob("*.py")) or [ROOT / package]:
            names = [t.id for node in ast.parse(file.read_text()).body if isinstance(node, ast.Assign)
                     for t in node.targets if isinstance(t, ast.Name)]  # fmt: skip
            if "VERSION" in names:
                found.add(".".join(["editbench", *file.relative_to(ROOT).with_suffix("").parts]))
    needing_nothing = {*FORMULAS.values(), *OF_GENERATING.values(), *OF_METHODS.values()}
    needing_nothing |= {*OF_GLUE.values(), *OF_HIDDEN_SHIFT.values()}
    needing_nothing.add("editbench.evaluation.judge.prompt")  # the version of the judge's metrics
    assert found == {*needing_nothing, *OF_LM_EVAL.values()}
    assert all(isinstance(importlib.import_module(module).VERSION, int) for module in needing_nothing)


def test_versions_are_of_the_formulas_that_are_used():
    def of(metric, *tasks):
        ability = f"protocol.ability.tasks={list(tasks)}"
        return set(versions(composing_module.compose([f"protocol.metrics=[{metric}]", ability]).protocol, "rome"))

    always = {*FORMULAS, *OF_METHODS, "method"}
    assert of("exact_match") == of("exact_match", "pocket") == {"exact_match", *always}
    assert of("exact_match", "glue_rte") == {"exact_match", "glue", *always}
    for name in ("generation", "ngram_entropy"):
        assert of(name) == {name, *always, *OF_GENERATING}


def test_versions_of_what_methods_share_are_compared_and_the_methods_own_is_its_own(places):
    made = provenance(run(places))
    assert made["parts"]["versions.covariance"] == made["versions"]["covariance"]
    assert made["parts"]["method.version"] == made["versions"]["method"] == 1
    assert made["parts"]["versions.likelihood"] == made["versions"]["likelihood"]


def test_a_long_value_is_a_part_by_its_digest():
    assert part([1, 2]) == [1, 2] and part("x") == "x"
    long = ["a prompt"] * 100
    assert part(long).startswith("sha256:") and part(long) == part(list(long)) != part([*long, "b"])

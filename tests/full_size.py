"""Shapes of models of full size, without weights, and what was measured of one on a GPU."""

import json
from functools import cache

from benchmarks.gpu.shapes import LONG, SHAPES, SHORT
from editbench.datasets import load
from editbench.estimate import token_counter
from editbench.model_places import shipped_model_path
from editbench.room import Workload


def config_folder(folder, name):
    """A folder that holds a model's config.json and nothing else."""
    (folder / name).mkdir(parents=True)
    facts = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **SHAPES[name]}
    (folder / name / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder / name


@cache
def _records():
    return load("counterfact", "pocket").records


def requests(edits):
    """The first requests of the embedded world."""
    return [record.request for record in _records()[:edits]]


def workload(edits, batch, templates):
    """Of the first requests, behind given templates."""
    count = token_counter(shipped_model_path("pocket"))
    return Workload.of(requests(edits), batch, count, templates)


_VALUES = {"steps": 25, "learning_rate": 0.1}
_LAYERS = {"layers": [4, 5, 6, 7, 8], **_VALUES}
H200 = {
    "rome": (18.2, {"layer": 5, **_VALUES}, (20, 1, LONG)),
    "memit": (33.6, _LAYERS, (100, 100, SHORT)),
    "nse": (27.6, {**_LAYERS, "alpha": 0.0, "upper_bound": 1e9}, (100, 100, SHORT)),
    "scen": (21.6, {"layer": 20, "edits_at_once": 4}, (24, 4, SHORT)),
}
"""GiB at most while editing Llama-3-8B in bfloat16 on an H200, 2026-11-26, with settings and workload."""

"""The walk of ``method.layers``: the product's files between ``editbench run method.layers=[0,1]`` and the table.

A call *holds the layers* if one of its arguments is, or is a list or dict with, a text that has them (an override, a
row's ``method_config``), Hydra's node, or a typed config: the run's, the method's part, or the method's settings.
A *stay* is a longest run of such calls, in the order in which they begin, in one product file; a *climb* is a stay in a
file that the walk has left before. The walk ends where the row enters ``tables.py``. Not counted are a config's
own methods (it goes nowhere), objects that keep the settings (an editor), comprehensions, and files that anybody may
import.
"""

import sys
from functools import cache
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from editbench import cli
from editbench.config import MethodConfig, RunConfig
from editbench.locate_then_edit.multi_layer import MultiLayerConfig
from tests.tiny_models import LINES, tiny_lm

ROOT = Path(__file__).parent.parent
TEXTS = ("layers=[0,1]", '"layers": [0, 1]')
ANYBODY = {f"editbench/{name}.py" for name in ("checks", "config", "costs", "files", "json_lines", "progress")}
END = "editbench/results/tables.py"
MOST_STAYS, MOST_CLIMBS = 15, 2


def holds(value):
    """Whether an argument is, or has inside, the layers."""
    if isinstance(value, str):
        return any(text in value for text in TEXTS)
    if isinstance(value, DictConfig):
        return OmegaConf.select(value, "method.layers", default=None) is not None
    if isinstance(value, dict):
        return any(map(holds, value.values()))
    if isinstance(value, (list, tuple)):
        return len(value) < 100 and any(map(holds, value))
    return isinstance(value, (RunConfig, MethodConfig, MultiLayerConfig))


@pytest.fixture
def place(tmp_path):
    lm = tiny_lm("gpt2")
    lm.model.save_pretrained(tmp_path / "tiny")
    lm.tokenizer.save_pretrained(tmp_path / "tiny")
    (tmp_path / "plain.txt").write_text("\n".join(LINES))
    return tmp_path


@cache
def product_file(name):
    """Path from the repository's root of a product file; None for any other."""
    path = Path(name)
    found = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return found if found.startswith(("editbench/", "methods/")) else None


def walk_of(command):
    """Names (file, function) of the calls that hold the layers while ``command`` runs in this process."""
    calls = []

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and (name := product_file(code.co_filename)) and not code.co_name.startswith("<"):
            arguments = [*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
            arguments += [n for n in code.co_varnames[len(arguments) :][:2] if n in frame.f_locals]  # *args, **kwargs
            own = isinstance(frame.f_locals.get("self"), (RunConfig, MethodConfig, MultiLayerConfig))
            if name not in ANYBODY and not own and any(holds(frame.f_locals.get(one)) for one in arguments):
                calls.append((name, code.co_name))

    sys.setprofile(note)
    try:
        assert command() == 0
    finally:
        sys.setprofile(None)
    return calls


def stays_of(calls):
    """The stays: (file, functions)."""
    stays = []
    for file, function in calls:
        if not stays or stays[-1][0] != file:
            stays.append((file, []))
        stays[-1][1].append(function)
    end = next((number for number, (file, _) in enumerate(stays, 1) if file == END), len(stays))
    return stays[:end]


@pytest.mark.slow
def test_the_layers_pass_few_files_on_their_way_to_the_table(place, capsys):
    small = ["stream.edits=1", "protocol.metrics=[exact_match,agreement]", "protocol.stages=[final]", "method.steps=1"]
    data = ["dataset=counterfact", f"model.path={place / 'tiny'}", f"model.texts={place / 'plain.txt'}"]
    places = [f"results.dir={place / 'results'}", f"cache={place / 'cache'}", "model.templates=['{}']"]
    layers = ["run", "method=memit", "method.layers=[0,1]"]
    stays = stays_of(walk_of(lambda: cli.main([*layers, *small, *data, *places])))
    shown = "\n".join(f"{number} {file}: {', '.join(dict.fromkeys(of))}" for number, (file, of) in enumerate(stays, 1))
    climbs = len(stays) - len({file for file, _ in stays})
    print(shown)
    assert stays[0][0] == "editbench/cli.py" and stays[-1][0] == END, shown
    assert len(stays) <= MOST_STAYS and climbs <= MOST_CLIMBS, shown

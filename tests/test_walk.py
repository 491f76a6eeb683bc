"""The walk of ``method.layers``: the product's files between ``editbench run method.layers=[0,1]`` and the table.

A call *holds the layers* if an argument is the list of layers, a text or plain data (lists and dicts) with it, Hydra's
node, or one of the typed configs that have it: the run's, the method's part, and the method's settings. A *stay* is a
longest run of such calls, in the order in which they begin, in one product file. A *climb* is a stay in a file that the
walk has left before. Objects that keep the settings (an editor) do not count as arguments; comprehensions and lambdas,
and calls while a module is imported, do not count as calls.
"""

import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from editbench import cli
from editbench.config import MethodConfig, RunConfig
from editbench.locate_then_edit.multi_layer import MultiLayerConfig
from tests.zoo import LINES, tiny_lm

ROOT = Path(__file__).parent.parent
LAYERS = [0, 1]
TEXTS = ("layers=[0,1]", '"layers": [0, 1]')
MOST_STAYS, MOST_CLIMBS = 15, 2


def holds(value):
    """Whether an argument is, or has inside, the layers."""
    if isinstance(value, str):
        return any(text in value for text in TEXTS)
    if isinstance(value, DictConfig):
        return OmegaConf.select(value, "method.layers", default=None) is not None
    if isinstance(value, dict):
        return any(holds(one) for one in value.values())
    if isinstance(value, (list, tuple)):
        return list(value) == LAYERS or any(holds(one) for one in value)
    return isinstance(value, (RunConfig, MethodConfig, MultiLayerConfig))


@pytest.fixture
def place(tmp_path):
    lm = tiny_lm("gpt2")
    lm.model.save_pretrained(tmp_path / "tiny")
    lm.tokenizer.save_pretrained(tmp_path / "tiny")
    (tmp_path / "plain.txt").write_text("\n".join(LINES))
    return tmp_path


def walk_of(command):
    """Names (file, function) of the calls that hold the layers while ``command`` runs in this process."""
    calls = []

    def note(frame, event, _):
        code = frame.f_code
        file = Path(code.co_filename)
        if event != "call" or code.co_name.startswith("<") or not file.is_relative_to(ROOT):
            return
        name = file.relative_to(ROOT).as_posix()
        if name.startswith(("editbench/", "methods/")):
            arguments = [*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
            arguments += [n for n in code.co_varnames[len(arguments) :][:2] if n in frame.f_locals]  # *args, **kwargs
            if any(holds(frame.f_locals.get(argument)) for argument in arguments):
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
    return stays


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
    assert stays[0][0] == "editbench/cli.py" and stays[-1][0] == "editbench/results/tables.py", shown
    assert len(stays) <= MOST_STAYS and climbs <= MOST_CLIMBS, shown

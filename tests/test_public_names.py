"""The public names, after every module of the package has been imported: no module stands in the way of a function."""

import importlib
import inspect
from importlib.util import find_spec
from pathlib import Path

import editbench

ROOT = Path(__file__).parent.parent
CLASSES = {"EditRequest", "Probe", "EditRecord", "Resources", "Ledger", "LanguageModel", "EditResult"}
FUNCTIONS = {"load_model", "load_records", "make_editor", "run", "leaderboard", "report", "compare", "verify"}
EXTRAS = {"lm_eval": "lm_eval", "trackio": "trackio", "tensorboard": "tensorboard"}
"""By last part of a module: the package of an extra that it needs."""


def test_public_names_are_functions_and_classes_after_everything_is_imported():
    for file in sorted((ROOT / "editbench").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        needed = EXTRAS.get(parts[-1])
        if needed is None or find_spec(needed) is not None:
            importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    assert set(editbench.__all__) >= CLASSES | FUNCTIONS
    assert all(inspect.isclass(getattr(editbench, name)) for name in CLASSES)
    assert all(inspect.isfunction(getattr(editbench, name)) for name in FUNCTIONS)


def test_dir_shows_the_public_names_alone():
    assert dir(editbench) == sorted(editbench.__all__)

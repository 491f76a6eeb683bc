"""The public names, after every module of the package has been imported: no module stands in the way of a function."""

import importlib
import inspect
import pkgutil

import editbench

CLASSES = {"EditRequest", "Probe", "EditRecord", "Resources", "Ledger", "LanguageModel", "EditResult"}
FUNCTIONS = {"load_model", "load_records", "make_editor", "run", "leaderboard", "report", "compare"}


def test_public_names_are_functions_and_classes_after_everything_is_imported():
    for module in pkgutil.walk_packages(editbench.__path__, "editbench."):
        if module.name.startswith(("editbench.tests", "editbench.benchmarks", "editbench.docs")):
            continue  # beside the package in a checkout
        importlib.import_module(module.name)
    assert CLASSES | FUNCTIONS <= set(editbench.__all__)
    assert all(inspect.isclass(getattr(editbench, name)) for name in CLASSES)
    assert all(inspect.isfunction(getattr(editbench, name)) for name in FUNCTIONS)

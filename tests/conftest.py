"""What all tests share: no network, a cache of their own, and no more threads than the cores that a worker has."""

import gc
import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


RUN_A_MODEL = (
    *("evaluation", "layer_search", "locate_then_edit", "methods", "model", "pocket", "tuning"),
    *("test_checkpoint.py", "test_compose.py", "test_costs.py", "test_editing_loop.py", "test_editor.py"),
    *("test_generation_settings.py", "test_ledger.py", "test_provenance.py", "test_resources.py", "test_single_run.py"),
)
"""Folders and files under ``tests/`` whose tests run a model or compose many configs: not in `make test-fast`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of ``RUN_A_MODEL``."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] in RUN_A_MODEL:
            item.add_marker(pytest.mark.model)


def pytest_collection_finish() -> None:
    """Leave what is imported out of later garbage collections: each run begins with one, half a second of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps covariance and unedited answers out of the user's cache, and the user's out of the tests."""
    os.environ["EDITBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))

"""What all tests share: no network, a cache of their own, and no more threads than the cores that a worker has."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps covariance and unedited answers out of the user's cache, and the user's out of the tests."""
    os.environ["EDITBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))

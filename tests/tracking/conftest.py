"""The services' own variables are unset in every test."""

import os
import sys

import pytest


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("WANDB_", "TRACKIO_"))]:
        monkeypatch.delenv(name)
    yield
    if "wandb" in sys.modules:
        import wandb

        wandb.teardown()  # it reads its variables when it starts

"""The third-party package of ``tests/plugin``, installed for the tests of commands."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.commands.processes import ROOT, python


@pytest.fixture(scope="session")
def shout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the third-party package of ``tests/plugin``, to be put on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "tests" / "plugin", folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    command = ("pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    python(sys.executable, "-m", *command, "--target", str(folder / "site"), str(folder / "source"), cwd=folder)
    return folder / "site"

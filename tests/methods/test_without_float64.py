"""Runs ``without_float64_cases.py`` in a process of its own.

A registered device lasts as long as its process, in which no fork can compute gradients any more: the torture forks.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("without_float64_cases.py")


@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_a_device_without_float64(which, tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", CASES, "-m", which]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run([*command, f"--basetemp={tmp_path / 'own'}"], env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]

"""`editbench --help` is fast: nothing heavy is imported before it is used."""

import re
import subprocess
import sys

import pytest

from editbench.cli import COMMANDS

pytestmark = pytest.mark.slow

HEAVY = {"accelerate", "datasets", "hydra", "numpy", "pandas", "scipy", "torch", "transformers", "wandb"}

HELP = """
import runpy

sys.argv = ["editbench", "--help"]
try:
    runpy.run_module("editbench.cli", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
"""

KNOWN = """
import editbench.launch
from editbench import plugins, registry
for method in plugins.entry_points(plugins.METHODS):
    registry.load_method(method)
"""


@pytest.mark.parametrize("code", ["import editbench", "import editbench.cli", HELP], ids=["package", "cli", "help"])
def test_nothing_heavy_is_imported(code: str) -> None:
    script = f"import sys\n{code}\nprint('imported:', *sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["imported:"]


def test_a_mistake_is_said_before_transformers_is_imported() -> None:
    """Which takes longer than all the rest: what a command line may say is known without a model."""
    script = f"import sys\n{KNOWN}\nprint('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_help_names_the_commands() -> None:
    done = subprocess.run([sys.executable, "-m", "editbench.cli", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    explained = re.findall(r"^    ([a-z]+)(?:  +\S|$)", done.stdout, re.M)
    assert explained == list(COMMANDS)
    before, new = (
        {"run", "precompute", "locate", "demo", "leaderboard", "report", "compare", "list"},
        {
            "fetch",
            "tune",
            "train",
            "verify",
            "submit",
            "edit",
            "edits",
            "ask",
            "forget",
            "export",
            "explain",
            "plan",
            "clean",
        },
    )
    assert set(COMMANDS) == before | new | {"covariance", "ranks", "workspace"}

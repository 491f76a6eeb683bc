"""`editbench --help` is fast: nothing heavy is imported before it is used."""

import subprocess
import sys

import pytest

HEAVY = {"accelerate", "datasets", "hydra", "pandas", "scipy", "torch", "transformers", "wandb"}

HELP = """
import runpy

pytestmark = pytest.mark.slow
sys.argv = ["editbench", "--help"]
try:
    runpy.run_module("editbench.cli", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize("code", ["import editbench", "import editbench.cli", HELP], ids=["package", "cli", "help"])
def test_nothing_heavy_is_imported(code: str) -> None:
    script = f"import sys\n{code}\nprint('imported:', *sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["imported:"]


def test_help_names_the_commands() -> None:
    done = subprocess.run([sys.executable, "-m", "editbench.cli", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("run", "precompute", "locate", "demo", "leaderboard", "report", "compare", "list"):
        assert command in done.stdout

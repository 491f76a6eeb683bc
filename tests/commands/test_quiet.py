"""No warning of any kind reaches a user's terminal, from any command that does its work."""

import os
import subprocess
import sys

import pytest

from tests.commands.test_cli import place, run_arguments

__all__ = ["place"]
pytestmark = pytest.mark.slow


def without_layer(arguments):
    return [argument for argument in arguments if not argument.startswith("method.layer=")]


SHORT_DEMO = """
from editbench import cli, demo, single_run

run, demo.METHODS, demo.usable_cores = single_run.run, ("scen", "finetune"), lambda: 1
def short(config, cores=None):
    config.protocol.max_tokens = 16
    return run(config, cores)
single_run.run = short
raise SystemExit(cli.main(["demo", "--edits=2", "--results=demo"]))
"""
EDITS = ("stream.edits=2", "method.layer=1")
NSE = (
    "method=nse",
    "method.layers=[0,1]",
    "stream.edits=2",
    "protocol.metrics=[exact_match,agreement,generation_exact]",
    "protocol.beams=2",
)
COMMANDS = {
    "demo": ["-c", SHORT_DEMO],
    "run": without_layer(run_arguments(*NSE)),
    "sweep": run_arguments("-m", "method=rome,finetune", *EDITS),
    "precompute": ["precompute", *run_arguments("method=rome", *EDITS)[1:]],
    "locate": ["locate", *without_layer(run_arguments("method=rome", *EDITS)[1:])],
    "leaderboard": ["leaderboard", "demo", "--by=method", "--significance"],
    "latex": ["leaderboard", "demo", "--format=latex"],
    "report": ["report", "demo"],
    "compare": ["compare", "demo/A", "demo/B", "--force"],
    "list": ["list", "metrics"],
    "models": ["list", "models"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_warns(name, place):
    arguments = COMMANDS[name]
    if name == "compare":
        arguments = ["compare", *sorted(str(run.parent) for run in (place / "demo").glob("*/run.json"))[:2], "--force"]
    if name != "demo":
        arguments = ["-m", "editbench.cli", *arguments]
    hidden = ("TOKENIZERS_PARALLELISM", "TRANSFORMERS_VERBOSITY")  # they would hide warnings of libraries
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    variables |= {"PYTHONWARNINGS": "default", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=place, env=variables, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert not [line for line in printed.splitlines() if "warn" in line.lower() or "deprecat" in line.lower()]

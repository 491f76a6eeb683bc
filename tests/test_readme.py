"""What the README shows works: the Python example runs, the commands are ones that exist."""

import re
import shlex
from pathlib import Path

import pytest

from editbench import cli, runner

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_example_edits_a_fact_and_takes_it_back(capsys):
    (example,) = blocks("python")
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    request = names["request"]
    before, after = capsys.readouterr().out.strip().splitlines()
    assert request.target_true in before
    assert request.target in after
    assert names["receipt"].applied == [request.id]
    assert names["change"].abs().max() > 0
    assert request.target_true in names["host"].generate(request.prompt, max_new_tokens=6)[0]


def commands():
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("editbench")]


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command):
    arguments = shlex.split(command)[1:]
    if arguments[0] in ("run", "locate"):
        given = [a for a in arguments[1:] if not a.startswith("-")]
        runner.register_methods(runner._chosen(given, "method") or ["rome"])
        runner.check_overrides(runner._with_model_group(given))
    else:
        cli._parser().parse_args(arguments)


def test_every_file_it_points_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target

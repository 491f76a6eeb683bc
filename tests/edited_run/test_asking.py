"""Answers of the edited and of the unedited model."""

import io
import json

from editbench import open_run
from editbench.cli import main
from editbench.edited_run.asking import ask

PROMPT = "The mother tongue of Person1 Maupoil is"


def test_both_models_answer_and_the_edit_is_named(claimed):
    run = open_run(claimed("scen"))
    answer, other = ask(run, [PROMPT, "Anaal Nathrakh was created in"], tokens=4)
    assert answer.edited == run.generate(PROMPT, max_new_tokens=4)[0]
    assert answer.unedited == run.lm.generate(PROMPT, max_new_tokens=4)[0]
    assert [answer.edit, other.edit] == [route.id for route in run.routes([PROMPT, other.prompt])]
    assert answer.edit is not None


def test_the_command_answers_arguments_or_lines(claimed, capsys, monkeypatch):
    folder = str(claimed("finetune"))
    assert main(["ask", folder, PROMPT, "--tokens", "3", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["prompt"] == PROMPT and line["edit"] is None
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PROMPT}\nToko Yasuda plays the\n\nnever read\n"))
    assert main(["ask", folder, "--tokens", "3"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [text.split()[0] for text in shown] == ["edited", "unedited"] * 2
    assert shown[0].removeprefix("edited").strip() == line["edited"].strip()

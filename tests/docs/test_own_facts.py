"""The page on an own model and 50 own facts: its commands, in their order, on a copy of the embedded model."""

import io
import json
import shlex
import shutil

import pytest

from editbench import cli, load_records
from editbench.model_places import model_place
from editbench.records import LOCALITY, PARAPHRASE
from tests.docs.pages import TEXTS, lines

PAGE = "docs/own-facts.md"
COMMANDS = [shlex.split(line)[1:] for line in lines(TEXTS[PAGE])]
FEW = ["stream.edits=2", "protocol.metrics=[exact_match,agreement]", 'model.templates=["{}"]', "method.layer=0"]
FEW.append("method.ridge=0.01")  # so little text does not span the keys
SMALLER = {
    "edit": ['model.templates=["{}"]', "model.texts=texts.txt", "method.ridge=0.01"],
    "locate": ["stream.edits=1", "--layers", "0", "model.texts=texts.txt", "method.ridge=0.01"],
    "precompute": [*FEW, "model.texts=texts.txt"],
    "tune": [*FEW, "--trials", "1", "model.texts=texts.txt"],
    "run": [*FEW, "model.texts=texts.txt"],
}
"""By command: what makes it quick."""


def facts():
    for record in load_records("counterfact", "pocket", limit=50):
        of = {kind: [p for p in record.probes if p.kind == kind] for kind in (PARAPHRASE, LOCALITY)}
        yield {
            **{"prompt": record.request.prompt, "subject": record.request.subject, "target": record.request.target},
            "paraphrases": [probe.prompt for probe in of[PARAPHRASE]],
            "locality": [{"prompt": probe.prompt, "target": probe.target} for probe in of[LOCALITY]],
        }


@pytest.mark.slow
def test_the_way_from_facts_to_a_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    shutil.copytree(model_place("pocket"), tmp_path / "my-model")
    own = list(facts())
    (tmp_path / "facts.json").write_text(json.dumps(own))
    (tmp_path / "texts.txt").write_text("\n".join(f"{fact['prompt']} {fact['target']}." for fact in own))
    for command in COMMANDS:
        more = SMALLER.get(command[0], [])
        replaced = {word.partition("=")[0] for word in more}
        kept = [word for word in command if "=" not in word or word.partition("=")[0] not in replaced]
        if "method=finetune" in command:
            more = [word for word in more if not word.startswith(("model.templates", "method.ridge"))]
        assert cli.main([*kept, *more]) == 0, (command, capsys.readouterr().err)
    assert [command[0] for command in COMMANDS] == [
        *("edit", "locate", "precompute", "tune", "run", "run", "leaderboard", "export")
    ]
    assert (tmp_path / "locate-my-model" / "locate.json").exists() and (tmp_path / "found/my-model.yaml").exists()
    assert "my-model" in (tmp_path / "results/leaderboard.csv").read_text()
    assert (tmp_path / "edited" / "model.safetensors").exists()

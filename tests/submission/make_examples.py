"""Makes ``results/reference/submissions/``: an honest submission, and a forged one of each kind.

    python -m tests.submission.make_examples

Their digests are right: what is wrong with them shows only where the model is asked again (``FORGERIES``: the level).
Each lie is larger than what two machines may differ by.
They are to be made again when a formula's version changes, since a run of other versions cannot be verified.
"""

import json
import shutil
import tempfile
from pathlib import Path

from editbench import compose, single_run
from editbench.model.language_model import load_model
from editbench.submission.pack import submit
from tests.submission import forging

PLACE = Path(__file__).parents[2] / "results/reference/submissions"
RUN = (
    *(
        "method=rome",
        "method.covariance_tokens=2000",
        "method.steps=3",
        "model=pocket",
        "dataset=counterfact",
        "stream.edits=4",
        "stream.batch_size=2",
    ),
    *("stream.evaluate_at=[2]", "protocol.metrics=[exact_match,agreement,nll_contrast]", "protocol.max_tokens=16"),
)
FORGERIES = {"summary": 1, "row": 2, "edit": 2, "model": 2, "settings": 3, "failure": 3}
"""By what was forged: the level that refuses it."""


def done(folder, *overrides):
    """A finished run, in a folder that is called "run"."""
    given = [*RUN, f"results.dir={folder}", "results.name=run", f"cache={folder / 'cache'}", *overrides]
    return single_run.run(compose.compose(given)).folder


def summary(run, _):
    """A better mean in run.json; the manifest's digest of it is right."""
    info = json.loads((run / "run.json").read_text())
    info["summary"]["final"]["measures"]["rewrite.exact_match"]["mean"] = 0.99
    data = forging.encode_info(info)
    (run / "run.json").write_bytes(data)
    head = json.loads((run / "chain.jsonl").read_text().splitlines()[-1])["head"]
    forging.seal.write_manifest(run, head, data)


def row(run, _):
    """Every wrong answer at the end is right."""

    def better(of):
        if of["stage"] == "final" and "record" in of:
            of["scores"] |= {name: 1.0 for name in of["scores"] if name.endswith("exact_match")}

    with forging.forging(run):
        forging.edit_rows(run, "scores.jsonl", better)


def edit(run, _):
    """Other edits than those that were scored."""
    with forging.forging(run):
        forging.edit_ledger(run, lambda tensor: tensor * 3 if tensor.is_floating_point() else tensor)


def model(run, _):
    """Edits and scores of another base model than the one that is named."""
    claim = load_model("pocket").fingerprint
    with forging.forging(run):
        text = (run / "config.yaml").read_text()
        line = next(line for line in text.splitlines() if line.startswith("  path: ") and line.endswith("other"))
        path = line.removeprefix("  path: ")
        (run / "config.yaml").write_text(text.replace(path, "pocket"))
        (run / "run.json").write_text((run / "run.json").read_text().replace(path, "pocket"))
        forging.edit_info(run, lambda info: info["provenance"]["model"].update(hash=claim))


def settings(run, _):
    """The edits took more steps than the config says, and hold better."""
    with forging.forging(run):
        (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("steps: 10", "steps: 3"))
        forging.edit_info(run, lambda info: info["provenance"]["method"]["config"].update(steps=3))


def failure(run, ids):
    """A record that did badly is said to have failed, and enters no mean."""

    def failed(of):
        if ids[0] in of["ids"]:
            of["failed"] = {ids[0]: "NaN: the loss became NaN"}

    def unscored(of):
        if of.get("record") == ids[0]:
            of.update(status="failed", scores={}, probes=[], left_out={}, reason="failed: NaN: the loss became NaN")

    with forging.forging(run):
        forging.edit_rows(run, "edits.jsonl", failed)
        forging.edit_rows(run, "scores.jsonl", unscored)


def other_model(folder):
    """The embedded model with two of its weights halved."""
    lm = load_model("pocket")
    for layer in (1, 2):
        lm.weight(lm.mlp_out_name(layer)).mul_(0.5)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def main():
    """Make all of them."""
    for name in ("honest", "forged"):
        shutil.rmtree(PLACE / name, ignore_errors=True)
    (PLACE / "forged").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        honest = done(folder / "honest")
        submit([honest], PLACE / "honest")
        ids = [id for line in (honest / "edits.jsonl").read_text().splitlines() for id in json.loads(line)["ids"]]
        made = {
            "settings": lambda: done(folder / "settings", "method.steps=10"),
            "model": lambda: done(folder / "model", f"model.path={other_model(folder / 'other')}", "model.name=pocket"),
        }
        for name in FORGERIES:
            source = made[name]() if name in made else honest
            target = PLACE / "forged" / name
            submit([source], target)
            globals()[name](target / "runs/run", ids)


if __name__ == "__main__":
    main()

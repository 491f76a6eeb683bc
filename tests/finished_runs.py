"""Fixtures: finished runs of small models, made once, and the places of what they read."""

import json

import pytest

from editbench import compose, single_run
from tests.small_runs import counterfact_rows, overrides_of, save_model
from tests.tiny_models import LINES, tiny_lm


@pytest.fixture(scope="session")
def places(tmp_path_factory):
    """Paths by setting, as a verifier gives them."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "data.json").write_text(json.dumps(list(counterfact_rows())))
    (folder / "texts.txt").write_text("\n".join(LINES))
    (folder / "plain.txt").write_text("\n".join(f"They say: {line}" for line in LINES))
    return {
        "model.path": str(save_model(tiny_lm("gpt2"), folder / "tiny")),
        "model.texts": str(folder / "texts.txt"),
        "dataset.path": str(folder / "data.json"),
        "dataset.plain_path": str(folder / "plain.txt"),
    }


@pytest.fixture(scope="session")
def claimed(places, tmp_path_factory):
    """The finished run of a method, with further overrides; the same one for the same arguments."""
    made, folder = {}, tmp_path_factory.mktemp("runs")

    def run(method, *overrides):
        if (method, overrides) not in made:
            stream = ["stream.edits=5", "stream.batch_size=2", "stream.evaluate_at=[2]"]
            given = [f"{name}={place}" for name, place in places.items()]
            own = [f"results.dir={folder}", f"cache={folder / 'cache'}", "dataset=counterfact", *stream, *given]
            config = compose.compose([*overrides_of(method), *own, *overrides])
            made[method, overrides] = single_run.run(config).folder
        return made[method, overrides]

    return run

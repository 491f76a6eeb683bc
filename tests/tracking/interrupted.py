"""Real runs of a tiny model with a tracker: as a command has them, and stopped and resumed."""

import pytest

from editbench import checkpoint, launch, single_run
from editbench.editor import Editor

SMALL = ["method.steps=2", "method.layer=1", "protocol.max_tokens=16", "tracker.finish_seconds=60"]


def stopped_and_resumed(make, monkeypatch, *tracker):
    """The folder of a run of four edits that was stopped at the third, with its state saved, and then resumed."""
    edit, batches = Editor.edit, []

    def stop_at_third(self, batch):
        batches.append(batch)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return edit(self, batch)

    config = make(*tracker, method=["method=finetune"], settings=[*SMALL, "stream.edits=4"])
    monkeypatch.setattr(Editor, "edit", stop_at_third)
    monkeypatch.setattr(checkpoint, "MIN_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "MAX_SHARE", 1e9)
    with pytest.raises(KeyboardInterrupt):
        single_run.run(config)
    return single_run.run(config).folder


def swept(make, *tracker):
    """The folders of a sweep of two jobs, by the command's own function."""
    config = make(method=["method=finetune"], settings=[*SMALL, "stream.edits=2"])
    places = [f"model.path={config.model.path}", f"dataset.path={config.dataset.path}", f"cache={config.cache}"]
    places += [f"results.dir={config.results.dir}", f"dataset.plain_path={config.dataset.settings.plain_path}"]
    command = ["-m", "method=finetune,unedited", "dataset=counterfact", *SMALL, "stream.edits=2", *places, *tracker]
    assert launch.main(command) == 0
    return sorted(file.parent for file in config.folder.parent.glob("*/run.json"))

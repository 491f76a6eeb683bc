"""Weights & Biases' real client, offline: what it wrote is read back.

wandb 0.31 ships no reader of its offline transaction log in Python, so `wandb_records` reads the file itself (LevelDB's
log format: blocks of 32 KiB, records in parts) and wandb's own protocol classes parse the records.
"""

import json
import logging
import re
import struct

import pytest

from editbench import compose as composing_module
from editbench import single_run
from editbench.results.columns import finite
from editbench.results.leaderboard import read_row
from tests.small_runs import counterfact_rows
from tests.test_editing_loop import make, tiny_folder  # noqa: F401
from tests.tiny_models import LINES, tiny_lm
from tests.tracking.interrupted import stopped_and_resumed, swept
from tests.tracking.test_observer import tracked
from tests.tracking.three_edits import RELIABILITY, show_three_edits

pytestmark = pytest.mark.slow


def warnings(caplog):
    """What the run's user was warned of; wandb has a log of its own."""
    found = [record for record in caplog.records if record.name.startswith("editbench")]
    return [record.getMessage() for record in found if record.levelno >= logging.WARNING]


# -- Weights & Biases -------------------------------------------------------------------------------------------------


def wandb_records(file):
    from wandb.proto import wandb_internal_pb2 as protocol

    data = file.read_bytes()
    assert data[:4] == b":W&B"
    position, parts = 7, b""
    while position + 7 <= len(data):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield protocol.Record.FromString(parts)
            parts = b""


class Synced:
    """What would be synced from an offline run's folder."""

    def __init__(self, folder):
        [file] = folder.glob("*.wandb")
        self.history, self.summary, self.config, self.tables, self.exit_code = [], {}, {}, {}, None
        for record in wandb_records(file):
            kind = record.WhichOneof("record_type")
            if kind == "history":
                self.history.append(self._items(record.history.item))
            elif kind == "summary":
                self.summary.update(self._items(record.summary.update))
            elif kind == "run":
                self.run = record.run
                self.config.update(self._items(record.run.config.update))
            elif kind == "exit":
                self.exit_code = record.exit.exit_code
        for file in folder.glob("files/media/table/*.json"):
            self.tables[file.name.partition("_")[0]] = json.loads(file.read_text())

    @staticmethod
    def _items(items):
        return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}

    def curve(self, name):
        return [(line["edits"], line[name]) for line in self.history if name in line]


def offline_runs(folder):
    import wandb

    wandb.teardown()  # its service writes for a stage longer; it also ends with the process
    return [Synced(found) for found in sorted(folder.glob("wandb/offline-run-*"))]


def test_wandb_offline_holds_curves_summary_tables_and_config(tmp_path):
    show_three_edits(tmp_path, name="wandb", mode="offline")
    [synced] = offline_runs(tmp_path)
    assert synced.curve("immediate/reliability") == RELIABILITY
    assert synced.curve("cost/edit_seconds") == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert synced.curve("cost/peak_rss_bytes") == [(1, 9), (2, 9), (3, 9)]
    assert synced.curve("perplexity/plain") == [(0, 3.0)]
    assert synced.summary["status"] == "done"
    assert synced.summary["cost/edit_seconds"] == 1.5
    assert synced.exit_code == 0
    assert synced.config["seed"] == 3
    assert synced.config["provenance"]["method"] == {"name": "rome"}
    run = synced.run
    assert (run.project, run.run_group, run.run_id) == ("editbench", tracked(tmp_path).group, tracked(tmp_path).key)
    assert (run.display_name, set(run.tags)) == (tracked(tmp_path).name, {"counterfact", "pocket", "rome", "mine"})
    table = synced.tables["records"]
    assert table["columns"][:3] == ["position", "record", "status"]
    assert [row[:3] for row in table["data"]] == [[i, f"id{i}", "scored"] for i in range(3)]


def test_wandb_variables_hold_where_the_settings_say_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_RUN_GROUP", "their-group")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    show_three_edits(tmp_path, name="wandb", group="ours")
    [synced] = offline_runs(tmp_path / "elsewhere")
    assert (synced.run.project, synced.run.run_group) == ("theirs", "ours")


def test_wandb_without_a_key_goes_on_offline_and_asks_nothing(tmp_path, monkeypatch, caplog):
    for name in ("HOME", "NETRC", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "nobody"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    show_three_edits(tmp_path, name="wandb", mode="online")
    [synced] = offline_runs(tmp_path)
    assert synced.curve("immediate/reliability") == RELIABILITY
    (message,) = warnings(caplog)
    assert "Going on offline; later: wandb sync" in message


def test_wandb_disabled_writes_nothing(tmp_path):
    show_three_edits(tmp_path, name="wandb", mode="disabled")
    assert not list(tmp_path.rglob("*.wandb"))


# -- a whole run ------------------------------------------------------------------------------------------------------


def test_a_run_is_tracked_and_its_numbers_are_the_same(tmp_path, caplog):
    lm, data, text = tiny_lm("gpt2"), tmp_path / "data.json", tmp_path / "plain.txt"
    lm.model.save_pretrained(tmp_path / "tiny")
    lm.tokenizer.save_pretrained(tmp_path / "tiny")
    data.write_text(json.dumps(list(counterfact_rows())))
    text.write_text("\n".join(LINES))
    common = ["method=finetune", "method.layer=1", "method.steps=2", f"model.path={tmp_path / 'tiny'}"]
    common += [f"dataset.path={data}", f"dataset.plain_path={text}", f"cache={tmp_path / 'cache'}"]
    common += ["stream.edits=4", "stream.batch_size=2", "stream.evaluate_at=[2]"]

    plain = single_run.run(composing_module.compose([*common, f"results.dir={tmp_path / 'a'}"])).folder
    tracker = ["tracker=wandb", "tracker.mode=offline", "tracker.finish_seconds=60", "tracker.group=sweep"]
    shown = single_run.run(composing_module.compose([*common, *tracker, f"results.dir={tmp_path / 'b'}"])).folder

    assert shown.name == plain.name
    for file in ("scores.jsonl", "config.yaml"):
        assert (shown / file).read_text().replace(str(tmp_path / "b"), str(tmp_path / "a")) == (
            plain / file
        ).read_text()
    [synced] = offline_runs(shown)
    rows = [json.loads(line) for line in (shown / "scores.jsonl").read_text().splitlines()]
    at_end = [row["scores"]["rewrite.exact_match"] for row in rows if row["stage"] == "final" and "record" in row]
    assert synced.curve("retained/reliability")[-1] == (4, pytest.approx(sum(at_end) / 4))
    assert [step for step, _ in synced.curve("immediate/reliability")] == [2, 4]
    assert [step for step, _ in synced.curve("perplexity/plain")] == [0, 2, 4]
    assert [step for step, _ in synced.curve("cost/seconds_per_edit")] == [2, 4]
    assert (synced.run.run_group, synced.run.job_type) == ("sweep", "finetune")
    check_summary(synced, shown)
    table = synced.tables["records"]
    asked = dict(zip(table["columns"], table["data"][0], strict=True))
    (edit,) = [row for row in rows if row["stage"] == "final" and row.get("position") == 0]
    probe = next(probe for probe in edit["probes"] if probe["kind"] == "rewrite")
    assert [asked[name] for name in ("prompt", "target", "before", "final/answer")] == [
        probe[name] for name in ("prompt", "target", "before", "answer")
    ]
    assert warnings(caplog) == []


def test_a_resumed_run_goes_on_in_the_same_run_of_the_service(make, monkeypatch):  # noqa: F811
    folder = stopped_and_resumed(make, monkeypatch, "tracker=wandb", "tracker.mode=offline")
    first, second = sorted(offline_runs(folder), key=lambda synced: synced.history[0]["edits"])
    assert first.run.run_id == second.run.run_id and first.run.run_group == second.run.run_group
    assert (first.summary["status"], second.summary["status"]) == ("interrupted", "done")
    curves = [[step for step, _ in synced.curve("immediate/reliability")] for synced in (first, second)]
    assert curves == [[1, 2], [3, 4]]
    rows = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    right_after = [row["scores"]["rewrite.exact_match"] for row in rows if row["stage"] == "immediate"]
    assert second.curve("immediate/reliability")[-1][1] == pytest.approx(sum(right_after) / 4)
    check_summary(second, folder)


def test_the_runs_of_a_sweep_have_its_id(make):  # noqa: F811
    folders = swept(make, "tracker=wandb", "tracker.mode=offline")
    found = [synced for folder in folders for synced in offline_runs(folder)]
    assert len({synced.run.run_id for synced in found}) == len(found) == 2
    assert {synced.run.job_type for synced in found} == {"finetune", "unedited"}
    (sweep,) = {synced.config["sweep"] for synced in found}
    assert re.fullmatch("[0-9a-f]{8}", sweep)
    for synced, folder in zip(found, folders, strict=True):
        check_summary(synced, folder)


def check_summary(synced, folder):
    """The run's summary in the service has the row of the CSV, by its columns."""
    row = {
        name: value for name, value in read_row(folder).items() if isinstance(value, str) or finite(value) is not None
    }
    assert {"method", "dataset", "score", "reliability", "reliability_low", "perplexity_ratio"} <= row.keys()
    words = {name for name, value in row.items() if isinstance(value, str)}
    assert {name: synced.summary.get(name) for name in words} == {name: row.pop(name) for name in words}
    assert {name: synced.summary.get(name) for name in row} == pytest.approx(row)

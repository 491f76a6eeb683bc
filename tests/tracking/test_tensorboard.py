"""TensorBoard's real writer: its event files are read back."""

import pytest

from editbench.results.leaderboard import read_row
from tests.test_editing_loop import make, tiny_folder  # noqa: F401
from tests.tracking.interrupted import stopped_and_resumed
from tests.tracking.three_edits import RELIABILITY, show_three_edits

pytestmark = pytest.mark.slow


def test_tensorboard_holds_curves_and_text(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    show_three_edits(tmp_path, name="tensorboard")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = events.Scalars("immediate/reliability")
    assert [(s.step, s.value) for s in scalars] == RELIABILITY

    def text(name):
        [event] = events.Tensors(f"{name}/text_summary")
        return event.tensor_proto.string_val[0].decode()

    assert '"seed": 3' in text("config")
    assert '"status": "done"' in text("summary")
    assert "|1|id1|scored|" in text("records")


def test_a_resumed_run_goes_on_and_its_row_is_a_line_of_hparams(make, monkeypatch):  # noqa: F811
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = stopped_and_resumed(make, monkeypatch, "tracker=tensorboard")
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [one.step for one in events.Scalars("immediate/reliability")] == [1, 2, 3, 4]
    row = read_row(folder)
    for name in ("score", "reliability", "seconds_per_edit"):
        assert events.Scalars(name)[-1].value == pytest.approx(row[name], rel=1e-6)
    data = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    for word in (row["method"], row["dataset"], "sweep"):
        assert word.encode() in data

"""TensorBoard's real writer: its event files are read back."""

import pytest

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

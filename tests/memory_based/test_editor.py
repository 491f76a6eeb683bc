"""What editors beside the weights share: one block at a time, and inputs at the ends of texts."""

import pytest
import torch

from editbench.memory_based.editor import all_finite
from tests.small_runs import PROMPTS, editor_of
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("method", ["scen", "grace"])
def test_one_block_at_a_time(method):
    editor = editor_of(method, tiny_lm())
    with editor.answering([0]), pytest.raises(RuntimeError, match="already open"), editor.answering([0]):
        pass
    with editor.answering([0]) as routing:
        assert routing.answered_by == [None]
    assert editor.answers_by_row and editor.empty


def test_inputs_do_not_depend_on_their_number(monkeypatch):
    editor = editor_of("grace", tiny_lm("llama", "float64"))
    whole = editor.inputs_at_ends(PROMPTS)
    monkeypatch.setattr("editbench.memory_based.editor.ROWS_AT_ONCE", 2)
    assert torch.allclose(editor.inputs_at_ends(PROMPTS), whole)
    assert editor.inputs_at_ends([]).shape == (0, editor.projection.d_in)


def test_all_finite():
    assert all_finite(torch.tensor([[1.0, 2.0], [float("nan"), 0.0], [0.0, float("inf")]])) == [True, False, False]

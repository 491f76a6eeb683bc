"""The control takes every request and changes nothing."""

import pytest

from editbench import make_editor
from tests.edits import edits
from tests.small_runs import same, weights
from tests.tiny_models import tiny_lm


def test_nothing_changes():
    editor = make_editor("unedited", tiny_lm("gpt2"))
    before = weights(editor.lm)
    assert editor.edit(edits(3)).applied == ["edit-0", "edit-1", "edit-2"]
    assert same(weights(editor.lm), before) and editor.ledger.edited_ids == ["edit-0", "edit-1", "edit-2"]
    assert editor.kind == "none" and not editor.ledger.changed_weights


def test_it_has_no_settings():
    with pytest.raises(ValueError, match="no setting 'layer'"):
        make_editor("unedited", tiny_lm("gpt2"), layer=1)

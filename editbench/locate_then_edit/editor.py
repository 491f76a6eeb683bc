"""Base class of editors that find values at the subject's last token."""

from __future__ import annotations

from typing import TypeVar

from editbench.editor import Editor
from editbench.locate_then_edit.prompts import edit_rows
from editbench.locate_then_edit.values import ValueConfig
from editbench.records import EditRequest

V = TypeVar("V", bound=ValueConfig)


class SubjectEditor(Editor[V]):
    """An editor whose values hold behind context templates, which :meth:`prepare` makes."""

    templates: list[str] | None = None

    def rows(self, request: EditRequest) -> list[tuple[int, ...]]:
        """The prompt within each context template, and the row of the KL term."""
        self.prepare([])
        assert self.templates is not None
        return [row.ids for row in edit_rows(self.lm, request, self.templates, train_eos=self.config.train_eos)]

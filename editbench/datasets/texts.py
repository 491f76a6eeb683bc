"""Texts whose likelihood is measured: ordinary text, and sentences that were right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from editbench.datasets.schema import Schema, Settings
from editbench.records import Passage

if TYPE_CHECKING:
    from editbench.datasets.rows import Row


def _plain(row: Row, settings: Settings) -> list[Passage]:
    return [Passage("", row.text("text"))]


def _accurate(row: Row, settings: Settings) -> list[Passage]:
    return [Passage(row.text("text").rstrip(), row.text("labels").strip())]


PLAIN: tuple[Schema[Settings], ...] = (Schema("plain text", ("text",), _plain),)
ACCURATE: tuple[Schema[Settings], ...] = (Schema("accurate sentences, SCEN", ("text", "labels"), _accurate),)

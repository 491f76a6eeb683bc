"""A dataset that editbench does not ship, with a layout and a setting of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.checks import one_of
from editbench.datasets.base import Dataset, Layout, Settings, edit_record, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from editbench.datasets.base import Item
    from editbench.datasets.rows import Row


@dataclass(frozen=True)
class ShoutsSettings(Settings):
    """Settings of the shouts.

    Attributes:
        case: Targets in "upper" case, or "kept" as they are.
    """

    case: str = "kept"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(("upper", "kept"), case=self.case)


def _shout(row: Row, settings: ShoutsSettings) -> Iterator[Item]:
    target = row.text("echo")
    yield edit_record(
        row,
        prompt=row.text("call"),
        subject=row.text("name"),
        target=target.upper() if settings.case == "upper" else target,
        paraphrases=row.texts("again"),
        locality=pairs(row.children("elsewhere")),
    )


SHOUTS = Dataset("shouts", ShoutsSettings, (Layout("shouts", ("call", "name", "echo", "again"), _shout),))

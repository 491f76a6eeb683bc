"""How a trial ended, and the table of all."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum


class Ending(Enum):
    """Of one trial; the last two must not be."""

    SURVIVED = "survived"  # what was lost was made again, and the results have the same bits
    REFUSED = "refused by name"  # an error or a status names the file or the setting, and nothing else suffered
    LOST = "lost"  # work that was done could not be gone on with, or an error says nothing
    SILENT = "silent"  # other results, without a word


@dataclass(frozen=True)
class Outcome:
    """One trial."""

    what: str
    ending: Ending
    said: str = ""


@dataclass
class Section:
    """Trials of one kind, and their count by ending."""

    title: str
    tries: Callable[[], Iterator[Outcome]]
    counts: Counter[Ending] = field(default_factory=Counter)
    bad: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    whole: bool = False  # whether every trial of it was made

    def run(self, seconds: float) -> None:
        """Try for so long."""
        begun = time.monotonic()
        for outcome in self.tries():
            self.add(outcome)
            if time.monotonic() - begun > seconds:
                break
        else:
            self.whole = True
        self.seconds = time.monotonic() - begun

    def add(self, outcome: Outcome) -> None:
        """Count a trial."""
        self.counts[outcome.ending] += 1
        if outcome.ending in (Ending.LOST, Ending.SILENT):
            self.bad.append(outcome)


def table(sections: list[Section]) -> str:
    """Markdown: a line a section."""
    titles = ["", "tried", *(ending.value for ending in Ending), "all of them"]
    lines = [titles, ["---", *itertools.repeat("---:", 5), "---"]]
    for section in sections:
        counts = [section.counts.total(), *(section.counts[ending] for ending in Ending)]
        lines.append([section.title, *(f"{count:,}" for count in counts), "yes" if section.whole else "a sample"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

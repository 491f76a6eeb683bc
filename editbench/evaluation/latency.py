"""Latency: what a question costs that is asked alone, with the edits and without what answers beside the weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING

from editbench.costs import synchronise
from editbench.evaluation.questions import questions
from editbench.model.likelihood import Answering, Query, score_targets
from editbench.records import EditRecord

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

QUESTIONS = 20
"""Records whose own question is asked, alone: the first ones that the model can take."""
TURNS = 5
"""Times that each is asked either way; the fastest counts, since other programs only ever add to it."""


def latency(lm: LanguageModel, records: Sequence[EditRecord], editor: Answering) -> dict[str, float]:
    """Wall seconds of a question alone, the median of the first records': "question_seconds" with the edits.

    "question_seconds_bare" is that of the same weights without what the editor adds to a pass or a prompt. The two are
    measured in turn, either first as often, after the first question was asked for nothing. Empty if the model can take
    none of the questions.
    """
    ways = {"question_seconds": editor, "question_seconds_bare": None}
    queries = (next(questions(record)).query for record in records)  # its own; tokenised no further than is asked
    taken = list(islice((query for query in queries if not lm.unaskable(query.prompt, *query.targets)), QUESTIONS))
    fastest: dict[str, list[float]] = {name: [] for name in ways}
    for place, query in enumerate([*taken[:1], *taken]):
        found: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(place, place + TURNS):
            for name in sorted(ways, reverse=turn % 2 == 1):
                found[name].append(_seconds(lm, query, ways[name]))
        for name, seconds in found.items():
            fastest[name].append(min(seconds))
    return {name: median(seconds[1:]) for name, seconds in fastest.items() if seconds}


def _seconds(lm: LanguageModel, query: Query, editor: Answering | None) -> float:
    synchronise()
    began = time.perf_counter()
    score_targets(lm, [query], editor=editor)
    synchronise()
    return time.perf_counter() - began

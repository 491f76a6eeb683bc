"""The six tasks of the published figures on general ability, as questions with a word for an answer: GLUE, MMLU, NLI.

Files have the columns of the tasks' own releases (:data:`TASKS`): JSON Lines, Parquet or tab-separated. The prompts are
written from the tasks' definitions; the published code (``glue_eval``) has others, and reads the answer out of a
generated text, so that heights differ: compare a model with itself before the edits. As there each task has 100 tests.

==========  =================================================================================
acc         share of right answers; the answer is the likeliest label, per token
f1          F1 of each label, averaged by the number of tests that have it
mcc         Matthews' correlation coefficient, of all labels together (Gorodkin 2004)
==========  =================================================================================

A test whose likelihoods are not finite has no answer, which is wrong.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from csv import QUOTE_NONE
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.evaluation.general_ability import GLUE, Ability, AbilityTest
from editbench.model.likelihood import Answering, Query, score_targets
from editbench.results.schema import DIFFERENCE, SHARE

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

VERSION = 1
"""Changes with prompts, labels and formulas."""
TESTS = 100
NO_ANSWER = -1
SUFFIXES = (".jsonl", ".parquet", ".tsv")


@dataclass(frozen=True)
class Task:
    """A task: the columns of its file, its prompt, and the word that stands for each label, by the label's number."""

    columns: tuple[str, ...]
    prompt: str
    words: tuple[str, ...]
    label: str = "label"  # column of the right label's number

    def question(self, row: Mapping[str, Any]) -> str:
        """The prompt for a row."""
        return self.prompt.format(**{name: str(row[name]).strip() for name in self.columns})


class _Choices(Task):
    """MMLU: four choices in one column, of which the letters are the labels."""

    def question(self, row: Mapping[str, Any]) -> str:
        choices = "\n".join(f"{letter}. {text}" for letter, text in zip(self.words, row["choices"], strict=True))
        return self.prompt.format(question=str(row["question"]).strip(), choices=choices)


_YES = "yes"
_NO = "no"
TASKS: dict[str, Task] = {
    "sst2": Task(
        ("sentence",), "Review: {sentence}\nIs this review negative or positive?\nAnswer:", ("negative", "positive")
    ),
    "mrpc": Task(
        ("sentence1", "sentence2"),
        "Sentence 1: {sentence1}\nSentence 2: {sentence2}\nDo both sentences say the same?\nAnswer:",
        (_NO, _YES),
    ),
    "cola": Task(("sentence",), "Sentence: {sentence}\nIs this sentence correct English?\nAnswer:", (_NO, _YES)),
    "rte": Task(
        ("sentence1", "sentence2"),
        "Text: {sentence1}\nClaim: {sentence2}\nDoes the claim follow from the text?\nAnswer:",
        (_YES, _NO),  # 0 is entailment
    ),
    "mmlu": _Choices(
        ("question", "choices"), "Question: {question}\n{choices}\nAnswer:", ("A", "B", "C", "D"), label="answer"
    ),
    "nli": Task(
        ("premise", "hypothesis"),
        "Premise: {premise}\nHypothesis: {hypothesis}\nIs the hypothesis true, undecided or false?\nAnswer:",
        ("true", "undecided", "false"),  # 0 is entailment, 1 neutral, 2 contradiction, as in MultiNLI
    ),
}


class Glue(AbilityTest):
    """The task ``name`` from a file of that name in ``folder``."""

    def __init__(self, name: str, folder: str | None, limit: int | None = None, tokens_per_batch: int | None = None):
        self.name, self.task = name, TASKS[name]
        self._folder, self._limit, self._tokens_per_batch = folder, limit or TESTS, tokens_per_batch
        self._tests: list[tuple[str, int]] = []  # question and label

    def load(self) -> None:
        """Read the first tests of the file; a ValueError names file, row and column of what cannot be used."""
        file = self._file()
        rows = _rows(file, self._limit)
        columns = {*self.task.columns, self.task.label}
        if rows and (missing := sorted(columns - rows[0].keys())):
            raise ValueError(f"{file}: the test {GLUE}{self.name} needs the columns {sorted(columns)}; {missing} miss")
        self._tests = [self._test(row, f"{file}, row {number}") for number, row in enumerate(rows, start=1)]
        if not self._tests:
            raise ValueError(f"{file} has no row; give the task's validation set")

    def measure(self, lm: LanguageModel, editor: Answering | None = None) -> list[Ability]:
        """Ask all tests."""
        queries = [Query(question, self.task.words) for question, _ in self._tests]
        scores = score_targets(lm, queries, editor=editor, tokens_per_batch=self._tokens_per_batch)
        answers = [_likeliest([score.nll for score in of_one]) for of_one in scores]
        labels = [label for _, label in self._tests]
        hits = [float(answer == label) for answer, label in zip(answers, labels, strict=True)]
        of_hits = Ability.of_items(f"{GLUE}{self.name}", {"acc": hits})
        numbers = {**of_hits.scores, "f1": weighted_f1(labels, answers), "mcc": matthews(labels, answers)}
        ranges = {"acc": SHARE, "f1": SHARE, "mcc": DIFFERENCE}
        return [Ability(of_hits.test, numbers, of_hits.stderr, of_hits.n, ranges)]

    def about(self) -> dict[str, Any]:
        """Version of the prompts, and digest of questions and labels."""
        digest = hashlib.sha256(repr(self._tests).encode()).hexdigest()
        return {f"{GLUE}{self.name}": f"version {VERSION}, {digest}"}

    def _file(self) -> Path:
        if self._folder is None:
            raise ValueError(
                f"the ability test {GLUE}{self.name} reads a file; name its folder: protocol.ability.glue_path"
            )
        files = [Path(self._folder, f"{self.name}{suffix}").expanduser() for suffix in SUFFIXES]
        for file in files:
            if file.is_file():
                return file
        raise ValueError(f"protocol.ability.glue_path: there is none of {', '.join(map(str, files))}")

    def _test(self, row: Mapping[str, Any], where: str) -> tuple[str, int]:
        label = row.get(self.task.label)
        if not (isinstance(label, int) and 0 <= label < len(self.task.words)):
            raise ValueError(
                f"{where}: {self.task.label} is {label!r}; it must be from 0 to {len(self.task.words) - 1}"
            )
        try:
            return self.task.question(row), label
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{where}: {', '.join(self.task.columns)} make no question ({error})") from error


def weighted_f1(labels: Sequence[int], answers: Sequence[int]) -> float:
    """Σ_c n_c / n · F1_c over the labels c, F1_c = 2 TP / (2 TP + FP + FN)."""
    pairs = list(zip(labels, answers, strict=True))
    total = 0.0
    for label in set(labels):
        hits = sum(pair == (label, label) for pair in pairs)
        total += labels.count(label) * 2 * hits / (labels.count(label) + list(answers).count(label))
    return total / len(labels)


def matthews(labels: Sequence[int], answers: Sequence[int]) -> float:
    """(c n − Σ_k p_k t_k) / √((n² − Σ p_k²)(n² − Σ t_k²)), c right of n; 0 where all answers or all labels are one."""
    n, right = len(labels), sum(label == answer for label, answer in zip(labels, answers, strict=True))
    kinds = {*labels, *answers}
    given, true = ({kind: list(of).count(kind) for kind in kinds} for of in (answers, labels))
    spread = (n * n - sum(given[k] ** 2 for k in kinds)) * (n * n - sum(true[k] ** 2 for k in kinds))
    return (right * n - sum(given[k] * true[k] for k in kinds)) / math.sqrt(spread) if spread else 0.0


def _likeliest(nlls: Sequence[float]) -> int:
    return min(range(len(nlls)), key=nlls.__getitem__) if all(map(math.isfinite, nlls)) else NO_ANSWER


def _rows(file: Path, count: int) -> list[Any]:
    """The first rows of a file, by column."""
    try:
        if file.suffix == ".jsonl":
            lines = file.read_text(encoding="utf-8").splitlines()
            return [json.loads(line) for line in filter(str.strip, lines)][:count]
        import pandas as pd

        frame = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, sep="\t", quoting=QUOTE_NONE)
        return frame.head(count).to_dict("records")
    except (ValueError, OSError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error

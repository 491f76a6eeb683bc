"""How far numbers found again may lie from those of a claim, and how far they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from editbench.protocol_parts import JUDGED
from editbench.results.columns import finite

if TYPE_CHECKING:
    from torch import Tensor

MACHINE = ("torch", "transformers", "tokenizers", "python", "platform", "cpu", "gpu")
"""Facts of the provenance that make two machines the same one."""
_SHOWN = 3  # differences that a verdict names


@dataclass(frozen=True)
class Tolerance:
    """What still agrees."""

    value: float  # largest difference of two scores: absolute below 1, relative above
    differing: float  # share of the scores that may lie farther apart; a 0 that was a 1 does
    change: float  # largest relative error of an edit made again: ‖Δ − Δ'‖ / ‖Δ‖
    cosine: float  # smallest cosine of an edit and the edit made again


SAME_MACHINE = Tolerance(value=1e-3, differing=0.0, change=1e-3, cosine=0.9999)
"""Bits differ only where other records stand in a batch."""
OTHER_MACHINE = Tolerance(value=0.02, differing=0.01, change=0.2, cosine=0.98)
"""Other kernels round otherwise, which optimised values carry on, and which decides ties between tokens."""


def tolerance_of(claimed: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, Tolerance]:
    """Whether two machines are the "same" or "other" ones, by a claim's provenance and ours; what then agrees."""
    same = all(claimed.get(name) == here.get(name) for name in MACHINE)
    return ("same", SAME_MACHINE) if same else ("other", OTHER_MACHINE)


@dataclass
class Scores:
    """Rows of a claim beside the same rows scored again."""

    tolerance: Tolerance
    rows: int = 0
    scores: int = 0
    equal: int = 0  # to the bit
    differing: int = 0
    largest: float = 0.0  # difference of two numbers, as in :class:`Tolerance`
    wrong: list[str] = field(default_factory=list)  # sentences on rows of another status, or with other scores

    def differences(self, told: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
        """Names of the scores that lie too far apart; of a row of another kind, what is another."""
        told, found = _without_verdicts(told), _without_verdicts(found)
        for name in ("status", "against"):
            if told.get(name) != found.get(name):
                return [name]
        if told["scores"].keys() != found["scores"].keys():
            return ["names of scores"]
        return [name for name, value in told["scores"].items() if self._apart(value, found["scores"][name])]

    def add(self, told: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Count a row and its scores."""
        told, found = _without_verdicts(told), _without_verdicts(found)
        apart, scores = self.differences(told, found), told["scores"]
        what = told.get("record", told.get("of"))
        self.rows += 1
        self.scores += len(scores)
        if apart and apart[0] not in scores:
            self.wrong.append(f"{told['stage']} row of {what!r}: another {apart[0]}")
            self.differing += len(scores)
            return
        pairs = [(value, found["scores"][name]) for name, value in scores.items()]
        self.equal += sum(a == b or (a is None and finite(b) is None) for a, b in pairs)
        self.differing += len(apart)
        self.largest = max([self.largest, *(_distance(a, b) for a, b in pairs)])
        for name in apart[:1]:
            self.wrong.append(f"{told['stage']} row of {what!r}: {name} is {found['scores'][name]}, not {scores[name]}")

    def _apart(self, told: Any, found: Any) -> bool:
        return (finite(told) is None) != (finite(found) is None) or _distance(told, found) > self.tolerance.value

    @property
    def agree(self) -> bool:
        """Whether few enough scores differ, and no row is of another kind."""
        kinds = any(": another " in sentence for sentence in self.wrong)
        return not kinds and self.differing <= self.tolerance.differing * self.scores

    def report(self) -> dict[str, Any]:
        """For the verdict."""
        numbers = {"rows": self.rows, "scores": self.scores, "equal": self.equal, "differing": self.differing}
        return {**numbers, "largest_difference": self.largest}

    def reasons(self) -> list[str]:
        """The first sentences on what differs; none where all agrees."""
        return [] if self.agree else [*self.wrong[:_SHOWN], f"{self.differing} of {self.scores} scores differ"]


def _without_verdicts(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row without a judge's scores: a judge, who may sit anywhere, is not asked again."""
    return {**row, "scores": {name: of for name, of in row["scores"].items() if name.rpartition(".")[2] not in JUDGED}}


def _distance(told: Any, found: Any) -> float:
    a, b = finite(told), finite(found)
    return 0.0 if a is None or b is None else abs(a - b) / max(1.0, abs(a))


def change_error(told: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> tuple[float, float]:
    """Relative error and cosine of tensors by name against those of a claim, all taken as one vector in float64.

    (inf, 0) where names or shapes differ; (0, 1) where both are zero.
    """
    import torch

    if {name: one.shape for name, one in told.items()} != {name: one.shape for name, one in found.items()}:
        return float("inf"), 0.0
    names = sorted(told)
    none = torch.zeros(0, dtype=torch.float64)
    a, b = (torch.cat([none, *(one[name].double().flatten() for name in names)]) for one in (told, found))
    norm, other = float(a.norm()), float(b.norm())
    if norm == 0.0 or other == 0.0:
        return (0.0, 1.0) if norm == other else (float("inf"), 0.0)
    return float((a - b).norm()) / norm, min(1.0, float(a @ b) / (norm * other))


def drawn(keys: Sequence[str], count: int, root: str, nonce: str) -> list[int]:
    """Indices of ``count`` of the keys, in their order: those with the lowest hashes of root, nonce and key.

    The nonce is chosen after the root is known, so that nobody knows the sample who makes the run.
    """
    import hashlib

    ranked = sorted(range(len(keys)), key=lambda i: hashlib.sha256(f"{root}|{nonce}|{keys[i]}".encode()).digest())
    return sorted(ranked[:count])

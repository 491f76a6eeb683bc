"""Which questions of a raw record say something; the others are left out, each with its kind and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from editbench.records import PARAPHRASE
from editbench.words import folded, nfc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from editbench.records import EditRequest, Probe


def states_a_truth(target: str, true_answers: Iterable[str | None]) -> bool:
    """Whether the new answer is a true one already, spelt alike: such an edit changes nothing and always succeeds."""
    return folded(target) in {folded(answer) for answer in true_answers if answer is not None}


def sift(request: EditRequest, probes: Iterable[Probe]) -> tuple[tuple[Probe, ...], tuple[str, ...]]:
    """The probes to ask, and why the others are not ("paraphrase: is the edited prompt").

    A paraphrase that is the edited prompt (but for white space) tests no generality; one in other letters does. A
    question whose answer should stay is not asked if it is the edited prompt, whatever its case. One of two equal
    questions is enough.
    """
    kept: dict[tuple[str, str, str | None], Probe] = {}
    left_out = []
    for probe in probes:
        written_alike = _written(probe.prompt) == _written(request.prompt)
        key = probe.kind, _written(probe.prompt), probe.target
        if written_alike or (probe.kind != PARAPHRASE and folded(probe.prompt) == folded(request.prompt)):
            left_out.append(f"{probe.kind}: is the edited prompt")
        elif key in kept:
            left_out.append(f"{probe.kind}: is asked already")
        else:
            kept[key] = probe
    return tuple(kept.values()), tuple(left_out)


def _written(text: str) -> str:
    return nfc(" ".join(text.split()))

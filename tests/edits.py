"""Edits for the tiny models: subjects at the start, in the middle and at the end, targets of one to eight tokens."""

from collections.abc import Sequence

from editbench import EditRequest

_CASES = (
    ("The mother tongue of Danielle Darrieux is", "Danielle Darrieux", "English"),
    ("Toko Yasuda plays", "Toko Yasuda", "guitar"),
    ("Autonomous University of Madrid is located in", "Autonomous University of Madrid", "Birmingham; Poland"),
    ("Edwin", "Edwin", "Christianity"),
    ("Everyone says that this was created by Anaal Nathrakh", "Anaal Nathrakh", "Apple A5 in London"),
    ("What is the twin city of Lyon? It is", "Lyon", "São Paulo"),
    ("In Rome, Marcel Maupoil, a native French speaker, lives in", "Marcel Maupoil", "Łódź"),
)
TEMPLATES = ("{}", "The person. {}", "Which language does Google speak, they say, in Galicia? {}")


def edits(count=7):
    """``count`` requests; from the eighth on, subjects are numbered."""
    requests = []
    for i in range(count):
        prompt, subject, target = _CASES[i % len(_CASES)]
        name = subject if i < len(_CASES) else f"{subject} {i}"
        requests.append(EditRequest(f"edit-{i}", prompt.replace(subject, name), name, target))
    return requests


class Unreadable(Sequence):
    """Texts for methods that must not ask for any."""

    def __getitem__(self, index):
        raise AssertionError("texts were read")

    def __len__(self):
        raise AssertionError("texts were counted")

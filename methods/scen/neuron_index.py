"""The index of experts: ids, prompts, neurons and their inputs, in the order in which they were added."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import torch

from editbench.memory_based.growing_rows import GrowingRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SEARCH_ROWS = 1 << 14  # neurons compared at once: bounds the memory of a search


class NeuronIndex:
    """At most one expert an id and a prompt; what adding and finding one takes does not depend on their number.

    Attributes:
        ids: In the order in which they were added.
        prompts: Prompts in their format.
    """

    def __init__(self, like: Tensor) -> None:
        """Start empty; ``like`` (0, d_ff) has the neurons' dtype and device."""
        self.ids: list[str] = []
        self.prompts: list[str] = []
        self._neurons, self._inputs = GrowingRows(like), GrowingRows(like)
        self._serials: list[int] = []  # rising: the place of a serial number is found by bisection
        self._serial: dict[str, int] = {}  # by id
        self._by_prompt: dict[str, str] = {}  # ids
        self._next = 0

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id: str) -> bool:
        return id in self._serial

    @property
    def neurons(self) -> Tensor:
        """(N, d_ff) view, until the next change."""
        return self._neurons.filled

    @property
    def inputs(self) -> Tensor:
        """(N, d_ff) view, until the next change."""
        return self._inputs.filled

    def position(self, id: str) -> int:
        """Place of an id that is here."""
        return bisect_left(self._serials, self._serial[id])

    def replaced_by(self, id: str, prompt: str) -> list[str]:
        """Ids that must leave before this id and prompt can be added, in their order."""
        found = {i for i in (id if id in self else None, self._by_prompt.get(prompt)) if i is not None}
        return sorted(found, key=self._serial.__getitem__)

    def append(self, id: str, prompt: str, neuron: Tensor, input: Tensor) -> None:
        """Add a neuron and its input, (d_ff,) each."""
        assert not self.replaced_by(id, prompt)
        self.ids.append(id)
        self.prompts.append(prompt)
        self._neurons.append(neuron)
        self._inputs.append(input)
        self._serials.append(self._next)
        self._serial[id], self._by_prompt[prompt] = self._next, id
        self._next += 1

    def delete(self, id: str) -> None:
        """Delete an id that is here."""
        at = self.position(id)
        del self._by_prompt[self.prompts[at]], self._serial[id]
        del self.ids[at], self.prompts[at], self._serials[at]
        self._neurons.delete(at)
        self._inputs.delete(at)

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Largest product of each input (B, d_ff) with a neuron, and the neuron's place; (B,) each."""
        assert len(self)
        blocks = torch.split(self.neurons, SEARCH_ROWS)
        largest, winner = (x @ blocks[0].T).max(dim=1)
        for number, block in enumerate(blocks[1:], 1):
            product, place = (x @ block.T).max(dim=1)
            winner = torch.where(product > largest, place + number * SEARCH_ROWS, winner)
            largest = torch.maximum(product, largest)
        return largest, winner


def standing(names: Sequence[tuple[str, str]]) -> tuple[list[int], dict[str, str]]:
    """Of ids and prompts in the order of adding: the places of those that stay, and what replaced the others, by id."""
    places, by_prompt, replacements = dict[str, int](), dict[str, str](), dict[str, str]()
    for place, (id, prompt) in enumerate(names):
        replaced = {old for old in (id if id in places else None, by_prompt.get(prompt)) if old is not None}
        for old in replaced:
            del by_prompt[names[places.pop(old)][1]]
        places[id], by_prompt[prompt] = place, id
        replacements.pop(id, None)
        replacements.update(dict.fromkeys(replaced, id))
    return list(places.values()), replacements

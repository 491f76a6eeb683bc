"""The bank: all experts of a stream, with their indexing neurons and the inputs that these were trained on."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import torch

from editbench.naming import suggestion

from .files import DamagedExpert, Expert, Folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from .shelf import Shelf
    from .stores import Packed

_log = logging.getLogger(__name__)


class Bank:
    """Experts in the order in which they came.

    Attributes:
        ids: Edit ids.
        prompts: Their prompts, as the model sees them.
        neurons: (N, d_ff), float32 or wider, on the layer's device.
        inputs: (N, d_ff) the input x of each edit's own prompt: negatives for later neurons.
        lost: Edits whose file was damaged, and how.
    """

    def __init__(self, weight: str, like: Tensor, shelf: Shelf) -> None:
        """Start empty.

        Args:
            weight: Name of the weight that experts differ from.
            like: An empty (0, d_ff) tensor with the neurons' dtype and device.
            shelf: Where experts lie.
        """
        self.weight, self.shelf = weight, shelf
        self.ids: list[str] = []
        self.prompts: list[str] = []
        self.neurons = self.inputs = like
        self.lost: dict[str, str] = {}
        self._foreign = shelf.folder is not None and bool(shelf.folder.files)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Expert]:
        """All experts; those on disk whose file is damaged are left out, and lost from then on."""
        at = 0
        while at < len(self):
            id = self.ids[at]
            packed = self._unless_damaged(id, self.shelf.peek)
            if packed is not None:
                yield Expert(id, self.prompts[at], self.weight, self.neurons[at], self.inputs[at], packed)
                at += 1

    # -- one by one -----------------------------------------------------------------------------------------------

    def add(self, expert: Expert) -> list[str]:
        """Append an expert; it takes the place of older ones with its id or its prompt, whose ids are returned.

        Raises:
            ValueError: It differs from another weight, or the bank's folder holds experts that were not loaded.
        """
        self._check(expert)
        if self._foreign and self.shelf.folder is not None:
            raise ValueError(
                f"{self.shelf.folder.path} already holds {len(self.shelf.folder.files)} experts that are not in this "
                "bank; load them with load_bank, or choose another bank_directory"
            )
        replaced = [i for i, p in zip(self.ids, self.prompts, strict=True) if expert.id == i or expert.prompt == p]
        for id in replaced:
            self.delete(id)
        self.shelf.put(expert)
        self._append(expert)
        return replaced

    def delete(self, id: str) -> None:
        """Forget an edit: its expert, its neuron and its input, on disk too.

        Raises:
            ValueError: The bank holds no such edit.
        """
        if id not in self.ids:
            raise ValueError(f"the bank holds no edit {id!r}; {suggestion(id, self.ids)}")
        self._drop(id)
        self.shelf.remove(id)

    def fetch(self, id: str) -> Packed | None:
        """An expert on the layer's device; None if its file is damaged: the edit is then no longer in the bank."""
        return self._unless_damaged(id, self.shelf.fetch)

    # -- all ------------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the whole bank into a folder, in place of the bank that may be there."""
        if self.shelf.folder is not None and path.resolve() == self.shelf.folder.path.resolve():
            return
        folder = Folder(path)
        folder.clear()
        for expert in self:
            folder.write(expert)

    def load(self, path: Path) -> None:
        """Append the bank that a folder holds; damaged files are warned of and listed in :attr:`lost`.

        Raises:
            ValueError: It is the bank of another weight.
        """
        own = self.shelf.folder
        if own is None or path.resolve() != own.path.resolve():
            for expert in self._readable(Folder(path)):
                self.add(expert)
            return
        for expert in self._readable(own):
            self._check(expert)
            if expert.id not in self.ids:
                self.shelf.adopt(expert)
                self._append(expert)
        self._foreign = False

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors: enough for :meth:`restore`, whatever becomes of the folder."""
        state: dict[str, Tensor] = {}
        words = []
        for i, expert in enumerate(self):
            words.append(expert.words())
            state |= {f"{i:06d}.{name}": tensor for name, tensor in expert.tensors().items()}
        text = json.dumps(words).encode()
        return state | {"index": torch.frombuffer(bytearray(text), dtype=torch.uint8)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Hold what ``state`` holds, and nothing else.

        Raises:
            ValueError: It is no bank's state, or that of another weight.
        """
        try:
            words = json.loads(bytes(state["index"].cpu().numpy()).decode()) if state else []
            experts = [Expert.of(w, _under(state, f"{i:06d}.")) for i, w in enumerate(words)]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not the state of a bank of experts ({error})") from error
        for expert in experts:
            self._check(expert)
        for id in list(self.ids):
            self.delete(id)
        if self.shelf.folder is not None:
            self.shelf.folder.clear()
        self._foreign = False
        for expert in experts:
            self.add(expert)

    # -- private --------------------------------------------------------------------------------------------------

    def _append(self, expert: Expert) -> None:
        self.ids.append(expert.id)
        self.prompts.append(expert.prompt)
        self.neurons = torch.cat([self.neurons, expert.neuron.to(self.neurons)[None]])
        self.inputs = torch.cat([self.inputs, expert.input.to(self.inputs)[None]])
        self.lost.pop(expert.id, None)

    def _drop(self, id: str) -> None:
        at = self.ids.index(id)
        del self.ids[at], self.prompts[at]
        self.neurons = torch.cat([self.neurons[:at], self.neurons[at + 1 :]])
        self.inputs = torch.cat([self.inputs[:at], self.inputs[at + 1 :]])

    def _unless_damaged(self, id: str, get: Callable[[str], Packed]) -> Packed | None:
        try:
            return get(id)
        except DamagedExpert as error:
            self._drop(id)
            self._lose(error)
            return None

    def _readable(self, folder: Folder) -> Iterator[Expert]:
        for expert in folder.experts():
            if isinstance(expert, DamagedExpert):
                self._lose(expert)
            else:
                yield expert

    def _lose(self, error: DamagedExpert) -> None:
        _log.warning("%s", error)
        self.lost[error.id] = error.reason

    def _check(self, expert: Expert) -> None:
        size = self.neurons.shape[1]
        if expert.weight != self.weight or len(expert.neuron) != size:
            raise ValueError(
                f"the expert of edit {expert.id!r} belongs to {expert.weight} ({len(expert.neuron)} inputs); "
                f"this bank's are for {self.weight} ({size})"
            )


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}

"""What editors share that answer beside the weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

import torch

from editbench.editor import Editor
from editbench.files import explained, read_tensors, write_tensors
from editbench.model.packed_targets import cut_beginning

from .projection import SECOND, Projection
from .routing import Answer, HeldRouting, Prompts
from .target_rows import prompt_inputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from editbench.ledger import Ledger
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources

C = TypeVar("C")
ROWS_AT_ONCE = 32


class MemoryBasedEditor(Editor[C]):
    """An editor whose edits answer within :meth:`answering`, chosen for each prompt at its last token.

    Its config has ``layer``, and ``projection`` and ``per_token`` where they can be set.

    Attributes:
        projection: The projection whose input, or output, decides.
    """

    kind = "memory"
    decides_by_outputs: ClassVar[bool] = False

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: C, resources: Resources | None = None) -> None:
        """Find the projection."""
        super().__init__(lm, ledger, config, resources)
        layer: int = config.layer  # type: ignore[attr-defined]
        self.projection = Projection.of(lm, layer, getattr(config, "projection", SECOND))
        self._answering = False

    @abstractmethod
    def choose(self, prompts: Prompts) -> Answer:
        """What answers each prompt."""

    @property
    @abstractmethod
    def empty(self) -> bool:
        """Whether there is nothing that could answer."""

    @property
    def answering_modules(self) -> Sequence[nn.Module]:
        """The modules whose outputs an answer changes; none for that of :attr:`projection` alone."""
        return ()

    @contextmanager
    def answering(self, last_prompt_columns: Sequence[int]) -> Iterator[HeldRouting]:
        """Let edits answer within the block, chosen at the first forward pass: use one block a batch of prompts.

        In generation each prompt may have several rows (beams, returned sequences), side by side.
        """
        if self._answering:
            name = type(self).__name__
            raise RuntimeError(f"{name}: answering() is already open; what answers is chosen until the block ends")
        routing = HeldRouting(last_prompt_columns, self.choose, per_token=getattr(self.config, "per_token", False))
        if not self.empty:
            at, modules = self.projection, self.answering_modules
            routing.attach(self.lm, at.layer, at.module, modules, outputs=self.decides_by_outputs)
        self._answering = True
        try:
            yield routing
        finally:
            self._answering = False
            routing.detach()

    def inputs_at_ends(self, texts: Sequence[str]) -> Tensor:
        """(B, d_in) input of the projection at the last token of each text, given in its prompt format.

        A text too long for the model loses its beginning but for the BOS, as in the evaluation.
        """
        rows = [self.fitted(self.lm.encode(text).ids) for text in texts]
        parts = [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]
        weight = self.lm.weight(self.projection.weight)
        return torch.cat([weight[:0], *(prompt_inputs(self.lm, self.projection, part) for part in parts)])

    def save(self, path: str | Path) -> None:
        """Write the memory into a sealed file."""
        path, facts = Path(path), {"method": type(self).__name__, "weight": self.projection.weight}
        with explained("write", path, "make its folder first, or give another file"):
            write_tensors(path, self.state(), facts)

    def load(self, path: str | Path) -> None:
        """Replace the memory by that in a file; a ValueError if it is another method's, or of another weight."""
        tensors, metadata = read_tensors(Path(path))
        wanted = {"method": type(self).__name__, "weight": self.projection.weight}
        if metadata != wanted:
            raise ValueError(f"{path} holds the memory of {metadata}; this is {wanted}")
        self.restore(tensors)

    def fitted(self, ids: list[int]) -> list[int]:
        """Token ids without what is too long for the model."""
        return list(cut_beginning(tuple(ids), self.lm.max_length, self.lm.tokenizer.bos_token_id))


def all_finite(tensors: Tensor) -> list[bool]:
    """Whether each of the tensors (B, …) holds finite numbers only."""
    found: list[bool] = tensors.isfinite().flatten(1).all(dim=1).tolist()
    return found

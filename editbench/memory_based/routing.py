"""Routing: what answers each prompt is chosen at its last token, and answers the whole sequence.

Shapes: R rows of a forward pass, T columns, B prompts. In generation with beams or several returned sequences R is a
multiple of B, the copies of a prompt side by side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from editbench.model.architectures import module_at
from editbench.model.packed_targets import FULL

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel


@dataclass(frozen=True)
class Prompts:
    """Prompts of a first forward pass, as a method sees them when it chooses.

    Attributes:
        seen: (B, T, d) what the module got, or gave.
        columns: (B,) column of each prompt's last token; 0 for rows without a prompt.
        mask: (B, T) bool, True at tokens that belong to the prompt's row; None: no padding.
    """

    seen: Tensor
    columns: Tensor
    mask: Tensor | None = None

    @property
    def last(self) -> Tensor:
        """(B, d) at the last tokens."""
        return self.seen[torch.arange(len(self.seen), device=self.seen.device), self.columns]

    @property
    def tokens(self) -> Tensor:
        """(B, T) bool: the prompts' own tokens, without padding and what comes behind them."""
        upto = torch.arange(self.seen.shape[1], device=self.seen.device) <= self.columns[:, None]
        return upto if self.mask is None else upto & self.mask


@dataclass(frozen=True)
class Pass:
    """One forward pass of chosen answers.

    Attributes:
        columns: By prompt, the column of its last token in the sequence.
        start: Column of the sequence that is the pass's first: those before it are in a cache of keys and values.
        copies: Rows of each prompt.
        place: Number of the module that answers, where there are several.
    """

    columns: tuple[int, ...]
    start: int = 0
    copies: int = 1
    place: int = 0


@dataclass(frozen=True)
class Answer(ABC):
    """What answers each prompt: ``of`` has the edit's name, None for the base model."""

    of: list[str | None]

    @property
    def any(self) -> bool:
        """Whether any edit answers."""
        return any(name is not None for name in self.of)

    @abstractmethod
    def apply(self, x: Tensor, output: Tensor, run: Pass) -> Tensor:
        """The output (R, T, d_out) of the edited module for its input x (R, T, d_in) and the base model's ``output``.

        Rows without an edit keep their bits.
        """


class HeldRouting:
    """Chooses an answer for each prompt in the first forward pass and keeps it for the rest of the sequence."""

    def __init__(self, columns: Sequence[int], choose: Callable[[Prompts], Answer], *, per_token: bool = False) -> None:
        """Hold choices for prompts whose last tokens stand in ``columns``, negative for rows without a prompt.

        ``per_token``: with a cache of keys and values each generated token is a prompt of its own, as published.
        """
        self.columns = list(columns)
        self._choose = choose
        self._per_token = per_token
        self._handles: list[Any] = []
        self._passes: tuple[int, int] = (0, 0)  # R, T
        self._given: Mapping[str, Any] = {}  # to the stack of layers, by name
        self._start = 0
        self._answer: Answer | None = None
        self._now: Answer | None = None  # in this pass, with its columns
        self._columns_now: tuple[int, ...] = ()

    @property
    def answered_by(self) -> list[str | None]:
        """Edit that answers each prompt; None for the base model, and before the first pass."""
        return [None] * len(self.columns) if self._answer is None else self._answer.of

    def attach(
        self,
        lm: LanguageModel,
        layer: int,
        sees: nn.Module,
        answers: Sequence[nn.Module] = (),
        *,
        outputs: bool = False,
    ) -> None:
        """Choose at the module ``sees`` of ``layer``, by its inputs or ``outputs``; answer at ``answers``, or there.

        ``layer`` is watched for the size of a batch, which some models flatten inside.
        """
        stack = module_at(lm.model, lm.architecture.layers.rpartition(".")[0])
        self._handles = [
            stack.register_forward_pre_hook(self._enter, with_kwargs=True),
            lm.layers[layer].register_forward_pre_hook(self._measure),
            sees.register_forward_hook(partial(self._see, outputs)),
        ]
        for place, module in enumerate(answers or [sees]):
            self._handles.append(module.register_forward_hook(partial(self._reply, place)))

    def detach(self) -> None:
        """Remove the hooks, if they are still there."""
        while self._handles:
            self._handles.pop().remove()

    def _enter(self, module: nn.Module, args: tuple[Any, ...], given: Mapping[str, Any]) -> None:
        from transformers.cache_utils import Cache

        caches = [value for value in given.values() if isinstance(value, Cache)]
        self._given, self._start = given, int(caches[0].get_seq_length()) if caches else 0

    def _measure(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        rows, columns = args[0].shape[:2]
        if rows % len(self.columns):
            raise ValueError(
                f"the model got {rows} rows; answering() was given the last prompt columns of {len(self.columns)}"
            )
        self._passes = rows, columns

    def _see(self, outputs: bool, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        rows, columns = self._passes
        seen = (output if outputs else args[0]).reshape(rows, columns, -1)
        if self._answer is None:
            self._answer = self._decide(seen)
            if not (self._answer.any or self._per_token):
                self.detach()  # nothing fires: the base model answers
        self._now, self._columns_now = self._answer, tuple(self.columns)
        if self._per_token and self._start:
            last = torch.full((rows,), columns - 1, device=seen.device)
            self._now, self._columns_now = self._choose(Prompts(seen, last)), (self._start + columns - 1,) * rows

    def _reply(self, place: int, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self._now is None or not self._now.any:
            return None
        rows, columns = self._passes
        run = Pass(self._columns_now, self._start, rows // len(self._columns_now), place)
        x = args[0].reshape(rows, columns, -1)
        return self._now.apply(x, output.reshape(rows, columns, -1), run).reshape(output.shape)

    @torch.no_grad()
    def _decide(self, seen: Tensor) -> Answer:
        if max(self.columns) >= seen.shape[1]:
            raise ValueError(
                f"column {max(self.columns)} of the last prompt token is not in the first forward pass, which has "
                f"{seen.shape[1]} columns; give the whole prompt at once"
            )
        first = torch.arange(0, len(seen), len(seen) // len(self.columns), device=seen.device)
        columns = torch.tensor(self.columns, device=seen.device).clamp(min=0)
        mask = _row_mask(self._given.get("attention_mask"), first, columns, seen.shape[1])
        chosen = self._choose(Prompts(seen[first], columns, None if mask is None else mask.to(seen.device)))
        return replace(chosen, of=[None if c < 0 else name for c, name in zip(self.columns, chosen.of, strict=True)])


def _row_mask(given: Any, rows: Tensor, columns: Tensor, width: int) -> Tensor | None:
    """(B, width) bool: the columns that each prompt's last token sees, of the mask that the model was given.

    It is (R, T), 1 at tokens; or (R, 1, T, T), True or 0 where seen; by kind of layer, if there are several.
    """
    mask: Tensor | None = given[FULL] if isinstance(given, Mapping) else given
    if mask is None:
        return None
    rows, columns = rows.to(mask.device), columns.to(mask.device)
    if mask.ndim == 2:
        return mask[rows, :width] != 0
    seen = mask[rows, 0, columns, :width]
    return seen if seen.dtype == torch.bool else seen == 0

"""Prompts that an edit does not concern: methods train against them what shall answer an edit's prompts alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import torch

from editbench.checks import at_least, one_of
from editbench.model.packed_targets import cut_beginning
from editbench.words import shows_nothing

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources

TEXTS, TRAINING = "texts", "training"
MOST = 1000  # prompts to draw from


def check_prompts(**values: Sequence[str]) -> None:
    """Refuse a prompt without a text: it may have no token at all."""
    for name, prompts in values.items():
        for at, prompt in enumerate(prompts):
            if shows_nothing(prompt):
                raise ValueError(f"{name} has {prompt!r} at {at}; give each prompt a text, or leave it out")


@dataclass
class IrrelevantConfig:
    """Source of the irrelevant prompts.

    Attributes:
        irrelevant: Plain prompts of other subjects, from which those of an edit are drawn; none: `irrelevant_from`.
        irrelevant_from: "texts", the beginnings of ``model.texts``; "training", prompts of the dataset's split "train".
        irrelevant_tokens: Tokens of the beginning of a text.
    """

    irrelevant: list[str] = field(default_factory=list, metadata={"learnt": True})
    irrelevant_from: str = TEXTS
    irrelevant_tokens: int = 20

    def __post_init__(self) -> None:
        check_prompts(irrelevant=self.irrelevant)
        at_least(1, irrelevant_tokens=self.irrelevant_tokens)
        one_of((TEXTS, TRAINING), irrelevant_from=self.irrelevant_from)


class IrrelevantPrompts:
    """Token ids of irrelevant prompts, in their prompt format; they are read when the first is drawn."""

    def __init__(self, lm: LanguageModel, resources: Resources, config: IrrelevantConfig) -> None:
        self._lm, self._resources, self._config = lm, resources, config

    def drawn(self, id: str, count: int = 1) -> list[list[int]]:
        """So many prompts for an edit, by seed and id; one may come twice."""
        digest = hashlib.blake2b(f"{self._resources.seed}:irrelevant {id}".encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        return [self.all[i] for i in torch.randint(len(self.all), (count,), generator=generator).tolist()]

    @cached_property
    def all(self) -> list[list[int]]:
        """All prompts to draw from; a ValueError if there are none."""
        config, resources = self._config, self._resources
        if config.irrelevant:
            return [self._ids(resources.prompt_format.apply(prompt)) for prompt in config.irrelevant]
        if config.irrelevant_from == TRAINING:
            found = [self._ids(record.request.prompt) for record in resources.training_records[:MOST]]
        else:
            texts = islice(resources.texts, MOST)
            found = [self._ids(resources.prompt_format.apply(self._beginning(text))) for text in texts]
        if not found:
            where = "the split train" if config.irrelevant_from == TRAINING else "model.texts"
            raise ValueError(f"the method needs irrelevant prompts, and {where} has none: give method.irrelevant")
        return found

    def _beginning(self, text: str) -> str:
        """The first tokens of a text, as text."""
        ends = [end for _, end in self._lm.encode(text).offsets[: self._config.irrelevant_tokens]]
        return text[: max(ends, default=0)]

    def _ids(self, text: str) -> list[int]:
        bos = self._lm.tokenizer.bos_token_id
        return list(cut_beginning(tuple(self._lm.encode(text).ids), self._lm.max_length, bos))

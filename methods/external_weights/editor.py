"""Puts weights that were edited elsewhere in place of the base model's: no editor, only the scores.

The first edit takes in the whole checkpoint, whatever is in the batch; all later ones find it done. The base model
stays what the unedited answers come from.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from editbench.editor import Capabilities, Editor, EditResult
from editbench.ledger import Dense, Transaction
from editbench.model.architectures import is_transposed, module_at

from .config import ExternalWeightsConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editbench.records import EditRequest


ADAPTER = "adapter_config.json"

_PASSES = 4
"""A weight plus the rounded difference may miss the checkpoint's number by a bit; so often the rest is added."""


class ExternalWeights(Editor[ExternalWeightsConfig]):
    """Takes the stream and answers with the weights of a checkpoint."""

    config_class = ExternalWeightsConfig
    capabilities = Capabilities()
    _taken_in = False

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Check that there is something to load.

        Raises:
            FileNotFoundError: The path looks like a folder and is none.
            ValueError: It is an adapter, and peft is not installed.
        """
        path = Path(self.config.path)
        if not path.is_dir() and (path.is_absolute() or self.config.path.startswith(".")):
            raise FileNotFoundError(f"checkpoint: there is no folder {path}; correct method.path")
        if (path / ADAPTER).is_file():
            _peft()

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Take in the checkpoint, unless the model has it.

        Raises:
            FileNotFoundError: No model at the path.
            ValueError: It is another architecture or size.
        """
        if self._taken_in or any(entry.weights for entry in self.ledger.entries):  # the latter: a run that goes on
            return
        edited = self._adapted() if (Path(self.config.path) / ADAPTER).is_file() else self._loaded()
        self._check_same_parameters(edited)
        changed = [name for name, wanted in edited.named_parameters() if self._bring(name, wanted.data, transaction)]
        result.details["changed_weights"] = changed
        self._taken_in = True

    def _loaded(self) -> Any:
        from transformers import AutoModelForCausalLM

        try:
            return AutoModelForCausalLM.from_pretrained(
                self.config.path, dtype=self.lm.model.dtype, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise FileNotFoundError(
                f"checkpoint: no model could be loaded from {self.config.path}: {reason}"
            ) from error

    def _adapted(self) -> Any:
        """A copy of the base model with the adapter merged into it."""
        wrapped = _peft().PeftModel.from_pretrained(copy.deepcopy(self.lm.model), self.config.path)
        return wrapped.merge_and_unload()

    def _check_same_parameters(self, edited: Any) -> None:
        shapes = [{n: tuple(p.shape) for n, p in model.named_parameters()} for model in (self.lm.model, edited)]
        differing = sorted(n for n in shapes[0].keys() | shapes[1].keys() if shapes[0].get(n) != shapes[1].get(n))
        if differing:
            name = differing[0]
            raise ValueError(
                f"checkpoint: {self.config.path} is no edited {self.lm.name}: {len(differing)} parameters differ in "
                f"name or shape, the first is {name} ({shapes[0].get(name)} here, {shapes[1].get(name)} there)"
            )

    def _bring(self, name: str, wanted: Tensor, transaction: Transaction) -> bool:
        """Make the model's weight ``wanted``, bit for bit; whether it was another."""
        current = self.lm.weight(name)
        path, _, leaf = name.rpartition(".")
        if leaf == "weight" and is_transposed(module_at(self.lm.model, path)):
            wanted = wanted.T
        wanted = wanted.to(current)
        changed = False
        for _ in range(_PASSES):
            delta = (wanted.double() - current.double()).to(torch.promote_types(current.dtype, torch.float32))
            if not bool(delta.any()):
                break
            transaction.apply(Dense(name, delta))
            changed = True
        return changed


def _peft() -> Any:
    """The package, if it is installed.

    Raises:
        ValueError: It is not.
    """
    try:
        import peft
    except ImportError as error:
        raise ValueError(
            "checkpoint: the folder holds an adapter; install it with pip install editbench[peft]"
        ) from error
    return peft

"""Replaces the base model's weights by weights that were edited elsewhere: all at the first edit, whatever it holds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.editor import Editor, EditResult
from editbench.ledger import Dense, Transaction
from editbench.model.architectures import is_transposed, module_at
from editbench.model.devices import in_float64
from editbench.model.loading import load_whole
from editbench.records import EditRequest
from editbench.room import Room

if TYPE_CHECKING:
    from editbench.model.shape import Shape
    from editbench.room import Workload

from .adapter import check_adapter, is_adapter, merged
from .config import ExternalWeightsConfig

_log = logging.getLogger(__name__)

MAX_PASSES = 4
"""w + (target − w) can differ from target in the last bit; the difference is added again until it is zero."""


class ExternalWeights(Editor[ExternalWeightsConfig]):
    """Answers with the weights at ``config.path`` from the first batch on."""

    title = "external weights"
    config_class = ExternalWeightsConfig
    _equals_base = False

    def edited_weights(self) -> list[str]:
        """None: which weights differ is known once they are loaded, and nothing is added up in them."""
        return []

    @property
    def _path(self) -> Path:
        """The config's path, its "~" expanded; the id of a model on the hub stays as it is."""
        return Path(self.config.path).expanduser()

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """A FileNotFoundError if the path names no folder, a ValueError for an adapter that cannot be merged."""
        path = self._path
        if not path.is_dir() and (path.is_absolute() or self.config.path.startswith(".")):
            raise FileNotFoundError(f"external_weights: there is no folder {path}; correct method.path")
        if is_adapter(path):
            check_adapter(path)

    @classmethod
    def room(cls, config: ExternalWeightsConfig, shape: Shape, work: Workload) -> Room:
        """The other model and the unedited weights in the host's memory, and a change of every weight on disk."""
        largest = max(parameter.numel() for parameter in shape.model.parameters())
        editing = (3 * 8 + shape.wide) * largest
        return Room(editing=editing, host=2 * shape.bytes, disk=shape.parameters * shape.wide)

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Load the weights, unless the model has them."""
        if self._equals_base or self.ledger.changed_weights:  # a resumed run has them from its ledger
            return
        edited = merged(self.lm, self._path) if is_adapter(self._path) else self._loaded()
        self._check_same_parameters(edited)
        changed = [name for name, p in edited.named_parameters() if self._replace(name, p.data, transaction)]
        result.details["changed_weights"] = changed
        self._equals_base = not changed
        if not changed:
            _log.warning("external_weights: no weight of %s differs from the base model's", self.config.path)

    def _loaded(self) -> Any:
        path, dtype = str(self._path), self.lm.model.dtype
        try:
            return load_whole(path, dtype=dtype)
        except (OSError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise FileNotFoundError(f"external_weights: no model could be loaded from {path}: {reason}") from error

    def _check_same_parameters(self, edited: Any) -> None:
        shapes = [{n: tuple(p.shape) for n, p in model.named_parameters()} for model in (self.lm.model, edited)]
        differing = sorted(n for n in shapes[0].keys() | shapes[1].keys() if shapes[0].get(n) != shapes[1].get(n))
        if differing:
            name = differing[0]
            raise ValueError(
                f"external_weights: {self.config.path} is no edited {self.lm.name}: {len(differing)} parameters differ "
                f"in name or shape, the first is {name} ({shapes[0].get(name)} here, {shapes[1].get(name)} there)"
            )

    def _replace(self, name: str, target: Tensor, transaction: Transaction) -> bool:
        """Make the weight equal ``target``, bit for bit; False if it was equal before."""
        current = self.lm.weight(name)
        path, _, leaf = name.rpartition(".")
        if leaf == "weight" and is_transposed(module_at(self.lm.model, path)):
            target = target.T
        target = target.to(current)
        changed = False
        for _ in range(MAX_PASSES):
            delta = (in_float64(target) - in_float64(current)).to(torch.promote_types(current.dtype, torch.float32))
            if not bool(delta.any()):
                break
            transaction.apply(Dense(name, delta))
            changed = True
        return changed

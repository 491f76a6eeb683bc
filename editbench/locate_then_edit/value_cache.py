"""Cache of values on the original weights, by content: the model, the request, the templates and every constant."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.costs import VALUES
from editbench.files import DamagedFile, decode_tensors, read_bytes, write_tensors
from editbench.locate_then_edit.values import Value, ValueConfig, optimise_values
from editbench.progress import progress
from editbench.records import EditError, EditRequest

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources


VERSION = 2
"""Changes with the values that :func:`~editbench.locate_then_edit.values.optimise_values` finds."""

FORMAT = 2
"""Changes with the layout of the cached files."""

EDITS_AT_ONCE = 256
"""Requests whose values are found, and written to disk, together."""


@dataclass(frozen=True)
class CachedValue:
    """A value as the cache keeps it: ``target`` (d), and the loss of every forward pass."""

    target: Tensor
    losses: list[float]


class ValueCache:
    """Finds values on the original weights, each once; keeps them in memory, and on disk if there is a folder."""

    def __init__(
        self,
        lm: LanguageModel,
        templates: Sequence[str],
        layer: int,
        at: str,
        settings: ValueConfig,
        resources: Resources,
    ) -> None:
        """Start with an empty memory; arguments as for :func:`~editbench.locate_then_edit.values.optimise_values`.

        The costs of ``resources`` get the seconds, which values found together share equally.
        """
        self.lm, self.templates, self.layer, self.at, self.settings = lm, list(templates), layer, at, settings
        constants = {f.name: getattr(settings, f.name) for f in fields(ValueConfig)}
        norm = lm.post_norm(layer)
        place = at if norm is None else f"{at} behind {norm.path}"
        facts = [VERSION, FORMAT, lm.fingerprint, lm.numerics, self.templates, layer, place, constants]
        self._prefix = json.dumps(facts, sort_keys=True)
        self._cache, self._costs = resources.cache, resources.costs
        self._found: dict[str, CachedValue] = {}

    def __getitem__(self, request: EditRequest) -> CachedValue:
        return self._found[self._key(request)]

    def lacks(self, requests: Sequence[EditRequest]) -> bool:
        """Whether a request's value is not in memory."""
        return any(self._key(r) not in self._found for r in requests)

    def find(self, requests: Sequence[EditRequest], *, patient: bool = False) -> None:
        """Find all missing values, :data:`EDITS_AT_ONCE` at a time, on the original weights.

        With ``patient``, requests whose optimisation fails are left out; else their :class:`EditError` is raised.
        """
        unique = {self._key(r): r for r in requests}
        missing = {k: r for k, r in unique.items() if k not in self._found and not self._read(k)}
        keys = list(missing)
        with progress("values", len(keys)) as advance:
            for start in range(0, len(keys), EDITS_AT_ONCE):
                part = keys[start : start + EDITS_AT_ONCE]
                self._optimise({k: missing[k] for k in part}, patient)
                advance(len(part))

    def _optimise(self, wanted: dict[str, EditRequest], patient: bool) -> None:
        began = time.perf_counter()
        while wanted:
            try:
                values = optimise_values(
                    self.lm, list(wanted.values()), self.templates, self.layer, self.at, self.settings
                )
            except EditError as error:
                if not patient:
                    raise
                wanted = {k: r for k, r in wanted.items() if r.id not in error.ids}
                continue
            seconds = time.perf_counter() - began
            self._costs.note(VALUES, seconds, read=False)
            for key, value in zip(wanted, values, strict=True):
                self._found[key] = CachedValue(value.target, [terms[0] for terms in value.losses])
                self._write(key, value, seconds / len(wanted))
            return

    def _key(self, request: EditRequest) -> str:
        content = json.dumps([request.prompt, request.subject, request.target])
        return hashlib.blake2b((self._prefix + content).encode(), digest_size=16).hexdigest()

    def _read(self, key: str) -> bool:
        """Read a value from disk; False if it is not there or damaged."""
        if self._cache is None or not (file := self._cache / _name(key)).is_file():
            return False
        try:
            tensors, facts, digest = decode_tensors(read_bytes(file), str(file))
            target, losses, seconds = tensors["target"], tensors["losses"][:, 0].tolist(), float(facts["seconds"])
        except (DamagedFile, KeyError) as error:
            warnings.warn(f"the cached value {file} is damaged ({error}) and is found again", stacklevel=2)
            return False
        device = self.lm.weight(self.lm.mlp_out_name(self.layer)).device
        self._found[key] = CachedValue(target.to(device), losses)
        self._costs.note(VALUES, seconds, read=True)
        self._costs.digests[_name(key)] = digest
        return True

    def _write(self, key: str, value: Value, seconds: float) -> None:
        if self._cache is not None:
            tensors = {"target": value.target, "losses": torch.tensor(value.losses, dtype=torch.float64)}
            file = self._cache / _name(key)
            file.parent.mkdir(parents=True, exist_ok=True)
            self._costs.digests[_name(key)] = write_tensors(file, tensors, {"seconds": seconds})


def _name(key: str) -> str:
    """Path from the cache's folder."""
    return f"values/{key[:2]}/{key}.safetensors"

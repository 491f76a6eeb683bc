"""Cache of values on the original weights, by content: the model, the request, the templates and every constant.

Values that are found together can differ in their last bits from values found apart. So the requests are cut into parts
by their order alone, those of a part that are not in the cache are found together, and their values are saved together
or not at all: the same requests in the same order give the same bits, wherever an earlier process was stopped. A value
that was found among other requests is not found again, unless its file is damaged: then they all are.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.costs import VALUES
from editbench.files import DamagedFile, decode_tensors, read_bytes, write_tensors
from editbench.locate_then_edit.values import Value, ValueConfig, optimise_values, rows_that_fit
from editbench.progress import progress
from editbench.records import EditError, EditRequest

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources


VERSION = 2
"""Changes with the values that :func:`~editbench.locate_then_edit.values.optimise_values` finds."""

FORMAT = 3
"""Changes with the layout of the cached files."""

_PARTS = "values/parts"
MOST_TOGETHER = 32
"""Requests of a part, at most: those whose values a stop can lose. On a CPU fewer fit for a model that is not small."""


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
        self._damaged: set[str] = set()
        self._groups: set[tuple[str, ...]] = set()  # keys whose values were found together

    def __getitem__(self, request: EditRequest) -> CachedValue:
        return self._found[self._key(request)]

    def lacks(self, requests: Sequence[EditRequest]) -> bool:
        """Whether a request's value is not in memory."""
        return any(self._key(r) not in self._found for r in requests)

    def find(self, requests: Sequence[EditRequest], *, patient: bool = False) -> None:
        """Find all missing values on the original weights, and save them part by part.

        With ``patient``, requests whose optimisation fails are left out; else their :class:`EditError` is raised.
        """
        by_key = {self._key(r): r for r in requests}
        if self._cache is not None and any((self._cache / _PARTS).glob("*")):
            for part in self._parts(by_key):
                self._recover(part)
        missing = {k for k in by_key if k not in self._found and not self._read(k)}
        if not missing:
            return
        self._costs.missing(VALUES, " ".join(sorted(missing)))
        with progress("values", len(missing)) as advance:
            for part in self._parts(by_key):
                for wanted in self._together({k: r for k, r in part.items() if k in missing}, by_key):
                    self._optimise(wanted, part, patient)
                    advance(len(missing & wanted.keys()))

    def _together(
        self, missing: dict[str, EditRequest], requests: Mapping[str, EditRequest]
    ) -> Iterator[dict[str, EditRequest]]:
        """What of a part is found together: a damaged value with those that it was found with, then the others."""
        for key in sorted(self._damaged & missing.keys()):
            others = next((group for group in self._groups if key in group), ())
            if key in missing and others and requests.keys() >= set(others):
                yield {k: requests[k] for k in others}
                missing = {k: r for k, r in missing.items() if k not in others}
        if missing:
            yield missing

    def _parts(self, requests: Mapping[str, EditRequest]) -> list[dict[str, EditRequest]]:
        """The requests in parts: on a CPU as many as it optimises at once; the rows of a GPU go by its free memory."""
        lm, on_cpu, rows = self.lm, self.lm.device.type == "cpu", len(self.templates) + 1
        longest = max(len(lm.encode(template).ids) for template in self.templates)
        parts: list[dict[str, EditRequest]] = [{}]
        width = 0
        for key, request in requests.items():
            answer = lm.continuation(request.target, lm.spaced(request.prompt))
            tokens = longest + len(lm.encode(request.prompt).ids) + len(answer)
            width = max(width, tokens)
            fit = rows_that_fit(lm, width, self.layer) // rows if on_cpu else MOST_TOGETHER
            if len(parts[-1]) >= max(1, min(fit, MOST_TOGETHER)):
                parts.append({})
                width = tokens
            parts[-1][key] = request
        return parts

    def _optimise(self, wanted: Mapping[str, EditRequest], part: Mapping[str, EditRequest], patient: bool) -> None:
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
            by_key = dict(zip(wanted, values, strict=True))
            self._found |= {k: CachedValue(v.target, [terms[0] for terms in v.losses]) for k, v in by_key.items()}
            self._groups.add(tuple(by_key))
            self._write(by_key, part, seconds)
            return

    def _key(self, request: EditRequest) -> str:
        at = [] if request.subject_at is None else [request.subject_at]
        content = json.dumps([request.prompt, request.subject, request.target, *at])
        return hashlib.blake2b((self._prefix + content).encode(), digest_size=16).hexdigest()

    def _read(self, key: str) -> bool:
        """Read a value from disk; False if it is not there or damaged."""
        if self._cache is None or not (file := self._cache / _name(key)).is_file():
            return False
        try:
            tensors, facts, digest = decode_tensors(read_bytes(file), str(file))
            target, losses, seconds = tensors["target"], tensors["losses"][:, 0].tolist(), float(facts["seconds"])
            together = tuple(facts["keys"])
        except (DamagedFile, KeyError) as error:
            warnings.warn(f"the cached value {file} is damaged ({error}) and is found again", stacklevel=2)
            self._damaged.add(key)
            return False
        device = self.lm.device_of(self.lm.mlp_out(self.layer))
        self._found[key] = CachedValue(target.to(device), losses)
        self._groups.add(together)
        self._costs.note(VALUES, seconds, read=True)
        self._costs.digests[_name(key)] = digest
        return True

    def _write(self, values: Mapping[str, Value], part: Mapping[str, EditRequest], seconds: float) -> None:
        """Save the values of a part: in one file, before each has its own."""
        if self._cache is not None:
            tensors = {f"{key}.target": value.target for key, value in values.items()}
            tensors |= {f"{k}.losses": torch.tensor(v.losses, dtype=torch.float64) for k, v in values.items()}
            facts = {"keys": list(values), "seconds": seconds / len(values)}
            whole = self._cache / _part_name(part)
            whole.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(whole, tensors, facts)
            self._write_each(tensors, facts)
            whole.unlink(missing_ok=True)

    def _write_each(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        assert self._cache is not None
        for key in facts["keys"]:
            own = {name: tensors[f"{key}.{name}"] for name in ("target", "losses")}
            file = self._cache / _name(key)
            file.parent.mkdir(parents=True, exist_ok=True)
            self._costs.digests[_name(key)] = write_tensors(file, own, facts)

    def _recover(self, part: Mapping[str, EditRequest]) -> None:
        """Write the values that a stopped process has left in the file of a part to their own files."""
        if self._cache is None or not (whole := self._cache / _part_name(part)).is_file():
            return
        try:
            tensors, facts, _ = decode_tensors(read_bytes(whole), str(whole))
            self._write_each(tensors, facts)
        except (DamagedFile, KeyError) as error:
            if whole.is_file():  # else another process has just written them
                warnings.warn(f"cached values in {whole} are damaged ({error}) and are found again", stacklevel=2)
        whole.unlink(missing_ok=True)


def _name(key: str) -> str:
    """Path from the cache's folder."""
    return f"values/{key[:2]}/{key}.safetensors"


def _part_name(part: Mapping[str, EditRequest]) -> str:
    """Path, from the cache's folder, of the values of a part that do not have their own files yet."""
    return f"{_PARTS}/{hashlib.blake2b(''.join(part).encode(), digest_size=16).hexdigest()}.safetensors"

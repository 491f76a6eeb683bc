"""What a run would find in the cache, and what it would compute: by the lookups that the run makes itself.

The parts of a run are built as the run builds them, with costs that end each part where it begins to compute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from editbench import registry, single_run
from editbench.costs import CachedCosts, Meter
from editbench.evaluation.evaluator import Evaluator
from editbench.ledger import Ledger
from editbench.model import language_model
from editbench.threads import restored_threads, set_threads

if TYPE_CHECKING:
    from editbench.config import RunConfig
    from editbench.model.language_model import LanguageModel


class NotCached(Exception):  # noqa: N818 - no error
    """A thing that the cache lacks, by its kind and a name that is its own."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind)
        self.kind, self.name = kind, name


class LookingCosts(CachedCosts):
    """Costs of which :attr:`read` are the seconds of what was found; nothing is computed."""

    def missing(self, kind: str, name: str) -> None:
        """End the part of the run that would compute this."""
        raise NotCached(kind, name)


@dataclass(frozen=True)
class Found:
    """What a run would find and compute.

    Attributes:
        read: Seconds, by kind, that things in the cache took to compute.
        computed: Kinds that would be computed, with what follows from them; by name those of earlier jobs of the plan.
        loading: Seconds that records and model took to load; None where the model was in memory.
    """

    read: Mapping[str, float]
    computed: Mapping[str, int | None]
    loading: float | None

    def __str__(self) -> str:
        computed = [kind for kind, job in self.computed.items() if job is None]
        earlier = [f"{kind} (of job {job})" for kind, job in self.computed.items() if job is not None]
        both = [("read", [*self.read, *earlier]), ("compute", [kind for kind in computed if kind not in self.read])]
        rest = [kind for kind in computed if kind in self.read]
        both.append(("compute the rest of", rest))
        return "; ".join(f"{verb} {', '.join(kinds)}" for verb, kinds in both if kinds) or "needs nothing"


@dataclass
class CacheLookup:
    """Looks up runs one after the other; the last one's model stays in memory for the next."""

    _model: tuple[str, LanguageModel] | None = None
    _jobs: dict[str, int] = field(default_factory=dict)
    """By name of a thing that the cache lacks: the first job that computes it."""

    def __call__(self, number: int, config: RunConfig) -> Found:
        """What job ``number`` of a plan would find. A ValueError or OSError of what the run itself would refuse."""
        begun, key, loading = time.perf_counter(), str(config.model), None
        records, stream = single_run.load_records(config)
        if self._model is None or self._model[0] != key or self._model[1].held:  # for another job's method
            self._model = None  # its memory first
            self._model = key, language_model.load_model(config.model)
            loading = time.perf_counter() - begun
        lm, meter = self._model[1], Meter()
        meter.costs = costs = LookingCosts()
        with restored_threads():
            set_threads(lm.model, setting=config.threads)
            own: Any = {"model": config.model, "dataset": config.dataset, "cache": config.cache}
            seed = config.stream.seed
            resources = single_run.build_resources(lm, records, stream, **own, seed=seed, meter=meter)
            kind = registry.load_method(config.method.name)
            editor = kind(lm, Ledger(lm), config.method.settings, resources)
            requests = [] if stream.single else [record.request for record in stream.records]
            given: Any = {"cache": config.cache, "seed": seed, "costs": costs, "ability": ()}
            parts: list[Callable[[], object]] = [
                lambda: Evaluator.build(lm, records, stream, config.protocol, **given),
                lambda: editor.prepare(requests) if editor.capabilities.needs_covariance else None,
            ]
            computed = dict(filter(None, (self._missing(part, number) for part in parts)))
        return Found(dict(costs.read), computed, loading)

    def _missing(self, part: Callable[[], object], number: int) -> tuple[str, int | None] | None:
        """The kind that a part of a run begins to compute, and the earlier job that has computed it by then."""
        try:
            part()
        except NotCached as found:
            job = self._jobs.setdefault(found.name, number)
            return found.kind, None if job == number else job
        return None

"""Tasks of lm-eval (Language Model Evaluation Harness, Gao et al.) on a model in memory, edited or not.

lm-eval makes prompts and choices, tokenises them, and turns log-likelihoods and texts into metrics. The log-likelihoods
come from :mod:`editbench.model.likelihood`: the editor learns where each context ends, and choices of one context share
its row. lm-eval is an extra; this module is imported for its tasks only.
"""

from __future__ import annotations

import copy
import difflib
import logging
import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import lru_cache, partialmethod
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import numpy as np
import torch
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from torch import Tensor
from tqdm import tqdm

from editbench.checks import at_least, unknown
from editbench.evaluation.general_ability import (
    LM_EVAL_RANGES,
    NSE_TASKS,
    POCKET,
    Ability,
    AbilityTest,
    error_of_equals,
)
from editbench.model.likelihood import Answering, score_pairs
from editbench.model.packed_targets import Pair, lead_of

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

_log = logging.getLogger("lm_eval")

VERSION = 2
"""Changes with the log-likelihoods that lm-eval is given."""

BOOTSTRAPS = 200
"""Resamples for standard errors without a formula (F1, Matthews); lm-eval takes about 5 ms for each."""

_ONE_PROCESS = "DISABLE_MULTIPROC"  # lm-eval's variable


class Harness(AbilityTest):
    """Tasks of lm-eval; a task's numbers depend on the seed, but not on the other tasks."""

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        limit: int | None = None,
        num_fewshot: int | None = None,
        include_path: str | None = None,
        batch_size: int = 8,
        tokens_per_batch: int | None = None,
        seed: int = 0,
    ) -> None:
        """Look the tasks up; :meth:`load` reads their data. Settings as in :class:`~editbench.config.AbilityConfig`.

        A group is reported as its mean, if it has one; of a tag each task by itself. All draws come from the seed.
        """
        at_least(1, **{"protocol.ability.limit": limit, "protocol.ability.batch_size": batch_size})
        at_least(0, **{"protocol.ability.num_fewshot": num_fewshot})
        include_path = include_path and str(Path(include_path).expanduser())
        if include_path is not None and not Path(include_path).is_dir():
            raise ValueError(f"protocol.ability.include_path: there is no folder {include_path}")
        self.tasks = list(tasks)
        self.limit, self.num_fewshot, self.seed = limit, num_fewshot, seed
        self._batch_size, self._tokens_per_batch = batch_size, tokens_per_batch
        self._manager = _manager_with(self.tasks, include_path)
        self._loaded: dict[str, Any] = {}

    def load(self) -> None:
        """Read the tasks' data, from lm-eval's cache or over the network; a ValueError names a task without data."""
        for name in self.tasks:
            try:
                with _quiet():
                    found = self._manager.load([name])
            except Exception as error:  # errors of datasets, hub and network have no common class
                reason = str(error).strip().partition("\n")[0]
                raise ValueError(
                    f"ability test {name!r}: its data cannot be loaded ({type(error).__name__}: {reason}); load it "
                    "once where there is a network, or leave it out of protocol.ability.tasks"
                ) from error
            for task in found["tasks"].values():
                own = task.get_config("num_fewshot")
                if own is None or (self.num_fewshot is not None and own != 0):
                    task.set_config(key="num_fewshot", value=self.num_fewshot or 0)
            self._loaded[name] = found

    def measure(self, lm: LanguageModel, editor: Answering | None = None) -> list[Ability]:
        """Run the tasks; see :class:`~editbench.evaluation.general_ability.AbilityTest`.

        A task with a NaN among its log-likelihoods has NaN for all its scores: to lm-eval NaN would be the likeliest.
        """
        assert self._loaded, "load() comes first"
        found: list[Ability] = []
        with _quiet():
            model = EditedLM(lm, editor, batch_size=self._batch_size, tokens_per_batch=self._tokens_per_batch)
            for name, loaded in self._loaded.items():
                model.nans = 0
                with _seeded(self.seed):
                    for task in loaded["tasks"].values():
                        task.set_fewshot_seed(self.seed)
                    results = evaluate(model, loaded, limit=self.limit, bootstrap_iters=BOOTSTRAPS, log_samples=False)
                found += _abilities(name, loaded["tasks"], results, sound=not model.nans)
        return found

    def about(self) -> dict[str, Any]:
        """Versions of lm-eval and of the tasks."""
        tasks = {name: task.VERSION for found in self._loaded.values() for name, task in found["tasks"].items()}
        return {"lm_eval": version("lm_eval"), "tasks": {name: str(number) for name, number in tasks.items()}}


class EditedLM(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """The model itself, for lm-eval; the tokenizer is a copy, since lm-eval may give it a padding token.

    A tokenizer that puts special tokens behind a text is refused if lm-eval would score answers behind them. ``nans``
    counts the log-likelihoods so far that were NaN.
    """

    def __init__(
        self,
        lm: LanguageModel,
        editor: Answering | None = None,
        *,
        batch_size: int = 8,
        tokens_per_batch: int | None = None,
    ) -> None:
        super().__init__(
            pretrained=lm.model,
            backend="causal",
            tokenizer=copy.deepcopy(lm.tokenizer),
            max_length=lm.max_length,
            batch_size=batch_size,
        )
        self.nans = 0
        self._lm, self._editor, self._tokens_per_batch = lm, editor, tokens_per_batch
        if self.tok_encode("x")[-1:] != lm.encode("x").ids[-1:]:
            raise ValueError(
                f"the tokenizer of {lm.name} puts special tokens behind a text, and lm-eval would ask its questions "
                "behind them; save it without (add_eos_token=False), or leave lm-eval's tasks out"
            )

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """lm-eval's own, without its bar."""
        return list(super().loglikelihood(self._asked(requests), disable_tqdm=True))

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood of whole texts in lm-eval's windows, each a text without a prompt; without its bar."""
        return list(super().loglikelihood_rolling(requests, disable_tqdm=True))

    def generate_until(self, requests: Any, disable_tqdm: bool = True) -> list[str]:
        """lm-eval's own, without its bar."""
        return list(super().generate_until(self._asked(requests), disable_tqdm=True))

    def _asked(self, requests: Sequence[Any]) -> Sequence[Any]:
        """The requests with the editor's text in front of their contexts; an empty context is left to `_in_front`."""
        if self._editor is None:
            return requests
        contexts = [request.args[0] and self._editor.asked(request.args[0]) for request in requests]
        asked = [copy.copy(request) for request in requests]
        for request, context in zip(asked, contexts, strict=True):
            request.arguments = (context, *request.args[1:])
        return asked

    def _in_front(self, text: str, context: list[int], most: int) -> list[int]:
        """The context of a text without a prompt, behind the editor's text; cut to ``most`` tokens together."""
        front = self._editor.asked(text).removesuffix(text) if self._editor is not None else ""
        if not front:
            return context
        first = context[:1] if context[0] == self.prefix_token_id else []
        rest = [*self.tok_encode(front, add_special_tokens=False), *context[len(first) :]]
        return [*first, *rest[max(0, len(first) + len(rest) - max(most, len(context))) :]]

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Log-likelihood (nats, summed over tokens) of each continuation, and whether greedy decoding gives it.

        A request has the texts (None for a window of a longer one), the context's token ids, and the continuation's.
        """
        pairs = [
            self._window(context, continuation) if texts is None else self._pair(texts, context, continuation)
            for texts, context, continuation in requests
        ]
        scores = score_pairs(self._lm, pairs, editor=self._editor, tokens_per_batch=self._tokens_per_batch)
        self.nans += sum(math.isnan(score.nll) for score in scores)
        return [(-score.nll * score.tokens, all(score.correct)) for score in scores]

    def _window(self, context: list[int], window: list[int]) -> Pair:
        """A window behind the text before it, which has at least one token (BOS)."""
        if self._editor is not None:
            context = self._in_front(self.tok_decode(window), context, self.max_length + 1 - len(window))
        lead = len(context) - 1 + lead_of((context[-1], *window), bos=context[-1])
        return Pair(tuple(context), tuple(window), lead=lead)

    def _pair(self, texts: tuple[str, str], context: list[int], continuation: list[int]) -> Pair:
        """The ids, cut at the beginning as lm-eval cuts them, BOS included."""
        if len(continuation) > self.max_length:
            raise ValueError(
                f"a choice of {len(continuation)} tokens is longer than the {self.max_length} that {self._lm.name} "
                "takes; leave the task out of protocol.ability.tasks"
            )
        room = self.max_length + 1 - len(continuation)  # the last token is not fed in
        if not texts[0]:
            context = self._in_front(texts[1], context, room)
        return Pair(tuple(context[-room:]), tuple(continuation), cut=len(context) > room)

    def _model_generate(self, context: Tensor, *args: Any, **settings: Any) -> Tensor:
        """Generate after contexts (B, T), padded on the left, with the task's settings and none of the model's."""
        columns = [context.shape[1] - 1] * len(context)
        answering = self._editor.answering(columns) if self._editor is not None else nullcontext()
        with self._lm.generation_settings(), answering:
            generated: Tensor = super()._model_generate(context, *args, **settings)
        return generated


@lru_cache(maxsize=4)
def _manager(include_path: str | None, defaults: bool) -> Any:
    """lm-eval's index of tasks; its own 14,000 take seconds to index."""
    with _quiet():
        return TaskManager(include_path=include_path, include_defaults=defaults)


def _manager_with(tasks: Sequence[str], include_path: str | None) -> Any:
    """The given folder's index if it has all these tasks, else lm-eval's and the folder's."""
    if include_path is not None and set(tasks) <= set(_manager(include_path, False).all_tasks):
        return _manager(include_path, False)
    manager = _manager(include_path, True)
    for name in tasks:
        if name not in manager.task_index:
            near = difflib.get_close_matches(name, [*manager.all_tasks, POCKET], n=1)
            raise unknown("ability test", name, near or [*NSE_TASKS, POCKET])
    return manager


def _abilities(name: str, tasks: Mapping[str, Any], results: Mapping[str, Any], sound: bool) -> list[Ability]:
    """The result of the task or group; without one (a tag, a group without a mean), a result for each task."""
    counts = {task: int(results["n-samples"][task]["effective"]) for task in tasks}
    whole = _ability(name, results["results"].get(name, {}), sound, sum(counts.values()))
    if whole.scores:
        return [whole]
    return [_ability(task, results["results"][task], sound, n) for task, n in counts.items()]


def _ability(name: str, result: Mapping[str, Any], sound: bool, n: int) -> Ability:
    """Numbers of a task; a standard error of 0 is replaced where the metric's range is known."""
    scores, errors = _metrics(result, sound)
    ranges = {label: within for label in scores if (within := LM_EVAL_RANGES.get(label.partition(".")[0])) is not None}
    ranges = {label: within for label, within in ranges.items() if not scores[label] > within[1]}  # SQuAD's is per cent
    alike = [label for label in ranges if errors.get(label) == 0]
    errors.update({label: error_of_equals(scores[label], n, ranges[label]) for label in alike})
    return Ability(name, scores, errors, n, ranges)


def _metrics(result: Mapping[str, Any], sound: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Scores and standard errors by metric: "acc" of the key "acc,none", "em.strict" of "em,strict", with a filter."""
    scores: dict[str, float] = {}
    errors: dict[str, float] = {}
    for key, value in result.items():
        metric, comma, how = key.partition(",")
        if comma and isinstance(value, Real) and not isinstance(value, bool):
            found = errors if metric.endswith("_stderr") else scores
            label = metric.removesuffix("_stderr") + ("" if how == "none" else f".{how}")
            found[label] = float(value) if sound else math.nan
    return scores, errors


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed all generators within the block, and restore them after it."""
    own, numpy_own = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(numpy_own)


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars, warnings and prints of lm-eval, and no processes for its bootstrap, forked beside torch's threads."""
    own, level, bar = os.environ.get(_ONE_PROCESS), _log.level, tqdm.__init__
    os.environ[_ONE_PROCESS] = "1"
    _log.setLevel(logging.ERROR)
    tqdm.__init__ = partialmethod(bar, disable=True)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), catch_warnings():
            simplefilter("ignore")
            yield
    finally:
        tqdm.__init__ = bar
        _log.setLevel(level)
        os.environ.pop(_ONE_PROCESS)
        if own is not None:
            os.environ[_ONE_PROCESS] = own

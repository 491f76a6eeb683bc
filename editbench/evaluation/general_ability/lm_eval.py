"""The Language Model Evaluation Harness (lm-eval; Gao et al.) on a model in memory, edited or not.

lm-eval makes prompts and choices, cuts them into tokens, and turns log-likelihoods and texts into metrics. The
log-likelihoods come from :mod:`editbench.model.likelihood`, so that the editor is told where each context ends and
choices of one context share its row. lm-eval is an extra; this module is imported where one of its tasks is asked for.
"""

from __future__ import annotations

import copy
import difflib
import logging
import math
import os
import random
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
from tqdm import tqdm

from editbench.checks import unknown
from editbench.evaluation.general_ability.base import NSE_TASKS, POCKET, Ability, error_of_equals
from editbench.evaluation.metrics import SHARE
from editbench.model.likelihood import answer_pairs
from editbench.model.packed_targets import Pair, lead_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from editbench.model.language_model import LanguageModel
    from editbench.model.likelihood import Answering


_log = logging.getLogger("lm_eval")

VERSION = 2
"""Changes with the log-likelihoods that lm-eval is given."""

BOOTSTRAPS = 200
"""Resamples for the standard errors of metrics without a formula (F1, Matthews); lm-eval takes some 5 ms for each."""

RANGES = {**dict.fromkeys(("acc", "acc_norm", "exact_match", "em", "f1"), SHARE), "mcc": (-1.0, 1.0)}
"""Between which values these metrics of lm-eval's lie."""

_ONE_PROCESS = "DISABLE_MULTIPROC"  # lm-eval's variable


class Harness:
    """Tasks of lm-eval.

    A task's numbers depend on the seed, but not on which other tasks are asked for.
    """

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
        """Look the tasks up; :meth:`load` then reads their data.

        Args:
            tasks: Names of tasks, groups (reported as their mean, if they have one) or tags (each task by itself).
            limit: The first so many documents of each task.
            num_fewshot: Solved examples before each question, except in tasks that demand none; None: as the task says.
            include_path: A folder with task files of one's own.
            batch_size: Rows at once in tasks that generate.
            tokens_per_batch: As in :func:`~editbench.model.likelihood.answer`.
            seed: Seed of the choice of examples and of whatever else is drawn.

        Raises:
            ValueError: Unknown task (with a did-you-mean), a folder that is none, or a number out of range.
        """
        for name, value, least in (("limit", limit, 1), ("num_fewshot", num_fewshot, 0), ("batch_size", batch_size, 1)):
            if value is not None and value < least:
                raise ValueError(f"protocol.ability.{name} is {value}; it must be at least {least}")
        if include_path is not None and not Path(include_path).is_dir():
            raise ValueError(f"protocol.ability.include_path: there is no folder {include_path}")
        self.tasks = list(tasks)
        self.limit, self.num_fewshot, self.seed = limit, num_fewshot, seed
        self._batch_size, self._tokens_per_batch = batch_size, tokens_per_batch
        self._manager = _manager_with(self.tasks, include_path)
        self._loaded: dict[str, Any] = {}

    def load(self) -> None:
        """Read the tasks' data, from lm-eval's cache or over the network.

        Raises:
            ValueError: A task's data cannot be had.
        """
        for name in self.tasks:
            try:
                with _quiet():
                    found = self._manager.load([name])
            except Exception as error:  # whatever goes wrong in datasets, hub or network: they have no common class
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
        """Put the tasks to the model; see :class:`~editbench.evaluation.general_ability.base.AbilityTest`.

        A task in which the model gave NaN for a log-likelihood has NaN for all its scores: lm-eval would take NaN for
        the likeliest.
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
        """Versions of lm-eval and of the tasks, whose prompts change with them."""
        tasks = {name: task.VERSION for found in self._loaded.values() for name, task in found["tasks"].items()}
        return {"lm_eval": version("lm_eval"), "tasks": {name: str(number) for name, number in tasks.items()}}


class EditedLM(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """A model as lm-eval sees a model.

    The model itself is used, not a copy. The tokenizer is a copy, for lm-eval may give it a padding token. One that
    puts special tokens behind a text is refused with a ValueError if lm-eval would ask behind them.

    Attributes:
        nans: Log-likelihoods so far that were NaN.
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
        """As lm-eval has it, without its bar."""
        return list(super().loglikelihood(requests, disable_tqdm=True))

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood of whole texts, in windows as lm-eval cuts them, without its bar.

        Each window is a text without a prompt: an editor chooses what answers at the end of its first half.
        """
        return list(super().loglikelihood_rolling(requests, disable_tqdm=True))

    def generate_until(self, requests: Any, disable_tqdm: bool = True) -> list[str]:
        """As lm-eval has it, without its bar."""
        return list(super().generate_until(requests, disable_tqdm=True))

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Log-likelihood (nats, summed over tokens) of each continuation, and whether greedy decoding gives it.

        Args:
            requests: The texts (None for a window of a longer one), the context's token ids, and the continuation's.
            disable_tqdm: There is no such bar here.
            override_bs: Batches go by tokens.
        """
        pairs = [
            _window(context, continuation) if texts is None else self._pair(context, continuation)
            for texts, context, continuation in requests
        ]
        answers = answer_pairs(self._lm, pairs, editor=self._editor, tokens_per_batch=self._tokens_per_batch)
        self.nans += sum(math.isnan(one.nll) for one in answers)
        return [(-one.nll * one.tokens, all(one.correct)) for one in answers]

    def _pair(self, context: list[int], continuation: list[int]) -> Pair:
        """The ids, as lm-eval cuts them: what the model does not take is missing at the beginning, BOS or not.

        Raises:
            ValueError: The continuation alone is too long.
        """
        if len(continuation) > self.max_length:
            raise ValueError(
                f"a choice of {len(continuation)} tokens is longer than the {self.max_length} that {self._lm.name} "
                "takes; leave the task out of protocol.ability.tasks"
            )
        room = self.max_length + 1 - len(continuation)  # the last token is not fed in
        return Pair(tuple(context[-room:]), tuple(continuation), cut=len(context) > room)

    def _model_generate(self, context: Tensor, *args: Any, **settings: Any) -> Tensor:
        """Generate after contexts (B, T), padded on the left; by the task's settings, none of the model's."""
        columns = [context.shape[1] - 1] * len(context)
        answering = self._editor.answering(columns) if self._editor is not None else nullcontext()
        with self._lm.generation_settings(), answering:
            generated: Tensor = super()._model_generate(context, *args, **settings)
        return generated


def _window(context: list[int], window: list[int]) -> Pair:
    """A window behind what is before it (at least a token, as BOS is)."""
    lead = len(context) - 1 + lead_of((context[-1], *window), bos=context[-1])
    return Pair(tuple(context), tuple(window), lead=lead)


@lru_cache(maxsize=4)
def _manager(include_path: str | None, defaults: bool) -> Any:
    """lm-eval's index of tasks. That of its own 14,000 takes seconds: a sweep reads it once."""
    with _quiet():
        return TaskManager(include_path=include_path, include_defaults=defaults)


def _manager_with(tasks: Sequence[str], include_path: str | None) -> Any:
    """An index that has these tasks: the given folder's, else lm-eval's and the folder's.

    Raises:
        ValueError: A task is in neither.
    """
    if include_path is not None and set(tasks) <= set(_manager(include_path, False).all_tasks):
        return _manager(include_path, False)
    manager = _manager(include_path, True)
    for name in tasks:
        if name not in manager.task_index:
            near = difflib.get_close_matches(name, [*manager.all_tasks, POCKET], n=1)
            raise unknown("ability test", name, near or [*NSE_TASKS, POCKET])
    return manager


def _abilities(name: str, tasks: Mapping[str, Any], results: Mapping[str, Any], sound: bool) -> list[Ability]:
    """The task's or group's own result; where there is none (a tag, a group without a mean), one for each task."""
    counts = {task: int(results["n-samples"][task]["effective"]) for task in tasks}
    whole = _ability(name, results["results"].get(name, {}), sound, sum(counts.values()))
    if whole.scores:
        return [whole]
    return [_ability(task, results["results"][task], sound, n) for task, n in counts.items()]


def _ability(name: str, result: Mapping[str, Any], sound: bool, n: int) -> Ability:
    """With the ranges of the metrics that have one, by which a standard error of 0 is none."""
    scores, errors = _metrics(result, sound)
    ranges = {label: within for label in scores if (within := RANGES.get(label.partition(".")[0])) is not None}
    ranges = {label: within for label, within in ranges.items() if not scores[label] > within[1]}  # of 100, SQuAD's
    alike = [label for label in ranges if errors.get(label) == 0]
    errors.update({label: error_of_equals(scores[label], n, ranges[label]) for label in alike})
    return Ability(name, scores, errors, n, ranges)


def _metrics(result: Mapping[str, Any], sound: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Scores and standard errors by metric, from keys such as "acc,none" and "acc_stderr,none".

    Where a task reads answers in several ways, the metric's name says which: "exact_match.strict-match".
    """
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
    """Everything random starts from the seed within the block, and is as it was behind it."""
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
    """No bars, warnings and prints of lm-eval's, and no processes for its bootstrap.

    They would be forked from a process that has torch's threads.
    """
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

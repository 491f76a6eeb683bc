"""The trials of a search, in a journal that several processes share: which comes next, and what became of each.

The sampler of a trial is seeded by the trial's place: a search that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from editbench.files import ResultsError, canonical, make_folder
from editbench.tuning.trial import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    import optuna

    from editbench.search_space import Space

JOURNAL = "journal.jsonl"
RANDOM_TRIALS = 5  # before the sampler learns from earlier ones
SETTINGS = "settings"  # attribute of a trial
FACTS, UNTUNED, OUTCOME = "facts", "untuned", "outcome"  # attributes of a study; the outcome's has the trial's number


@dataclass(frozen=True)
class Tried:
    """A finished trial; number 0 is of the untuned settings."""

    number: int
    settings: dict[str, Any]  # values of the sought settings
    outcome: Outcome


class Study:
    """A search in its folder; make one with :meth:`open` or :meth:`read`."""

    def __init__(self, folder: Path, study: optuna.Study) -> None:
        self.folder, self._study = folder, study

    @classmethod
    def open(cls, folder: Path, facts: Mapping[str, Any]) -> Study:
        """Start a search, or go on with it; a ValueError if it was made with other records, models or spaces."""
        make_folder(folder)
        make_folder(folder / "trials")
        with FileLock(folder / "study.lock"):
            found = cls(folder, _optuna_study(folder))
            if not found.facts:
                found._study.set_user_attr(FACTS, dict(facts))
        for name, value in facts.items():
            if (before := found.facts.get(name)) != value:
                raise ValueError(
                    f"{folder}: {name} has changed since this search was started ({_short(before)}, now "
                    f"{_short(value)}); delete the folder, or give another results.dir"
                )
        return found

    @classmethod
    def read(cls, folder: Path) -> Study:
        """A search that was started; nothing is written. A ResultsError if its journal holds none."""
        import optuna

        storage = _storage(folder)
        try:
            return cls(folder, optuna.load_study(storage=storage, study_name=folder.name))
        except KeyError:
            raise ResultsError(f"{folder / JOURNAL} holds no search named {folder.name}; delete the folder") from None

    @property
    def facts(self) -> dict[str, Any]:
        """What all its trials share."""
        return dict(self._study.user_attrs.get(FACTS, {}))

    @property
    def untuned(self) -> Tried | None:
        """The untuned settings, once they have been tried."""
        found = self._study.user_attrs.get(UNTUNED)
        return Tried(0, found[SETTINGS], Outcome(**found[OUTCOME])) if found else None

    @property
    def tried(self) -> list[Tried]:
        """Finished trials by number, from 1 on."""
        known = self._study.user_attrs
        outcomes = [
            (one.user_attrs[SETTINGS], Outcome(**known[name]))
            for one in self._study.get_trials(deepcopy=False)
            if (name := _outcome_of(one.number)) in known
        ]
        return [Tried(place, *both) for place, both in enumerate(outcomes, start=1)]

    def best(self, trials: int | None = None) -> Tried | None:
        """The first with the highest score, of the untuned settings and the first ``trials`` (None: all)."""
        every = [*([self.untuned] if self.untuned else []), *self.tried[:trials]]
        return max(every, key=lambda one: one.outcome.score, default=None)

    def set_untuned(self, settings: Mapping[str, Any], outcome: Outcome) -> None:
        """Keep the outcome of the untuned settings."""
        self._study.set_user_attr(UNTUNED, {SETTINGS: dict(settings), OUTCOME: outcome.as_dict()})

    @contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Whether this process may do the work of this name now; no other process may during the block."""
        lock = FileLock(self.folder / "trials" / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    @contextmanager
    def next_trial(self, trials: int, space: Mapping[str, Space], n_layers: int, seed: int) -> Iterator[Trial | None]:
        """A trial that a process left, or a new one while there are fewer than ``trials``; else None."""
        lock = FileLock(self.folder / "study.lock")
        lock.acquire()
        try:
            trial, own = self._next(trials, space, n_layers, seed)
        finally:
            lock.release()
        try:
            yield trial
        finally:
            if own is not None:
                own.release()

    def _next(
        self, trials: int, space: Mapping[str, Space], n_layers: int, seed: int
    ) -> tuple[Trial | None, FileLock | None]:
        import optuna

        every = self._study.get_trials(deepcopy=False)
        for one in every:
            if one.state != optuna.trial.TrialState.RUNNING:
                continue
            lock = FileLock(self.folder / "trials" / f"{one.number:04d}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue  # another process is at it
            if SETTINGS in one.user_attrs:
                return Trial(self._study, one.number, dict(one.user_attrs[SETTINGS])), lock
            self._study.tell(one.number, state=optuna.trial.TrialState.FAIL)  # stopped before it had settings
            lock.release()
        place = sum(SETTINGS in one.user_attrs for one in every)
        if place >= trials:
            return None, None
        self._study.sampler = _sampler(seed, place)
        asked = self._study.ask()
        lock = FileLock(self.folder / "trials" / f"{asked.number:04d}.lock")
        lock.acquire()
        values = {name: one.suggest(asked, name, n_layers) for name, one in space.items()}
        asked.set_user_attr(SETTINGS, values)
        return Trial(self._study, asked.number, values), lock


class Trial:
    """A trial to be done: its values of the sought settings."""

    def __init__(self, study: optuna.Study, number: int, settings: dict[str, Any]) -> None:
        self._study, self.number, self.settings = study, number, settings

    def tell(self, outcome: Outcome) -> None:
        """Keep what became of it."""
        self._study.set_user_attr(_outcome_of(self.number), outcome.as_dict())
        self._study.tell(self.number, outcome.score)


def _outcome_of(number: int) -> str:
    return f"{OUTCOME} {number}"


def _optuna_study(folder: Path) -> optuna.Study:
    import optuna

    storage = _storage(folder)
    return optuna.create_study(storage=storage, study_name=folder.name, direction="maximize", load_if_exists=True)


def _storage(folder: Path) -> optuna.storages.JournalStorage:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))


def _sampler(seed: int, place: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import TPESampler

    drawn = hashlib.sha256(canonical([seed, place])).digest()
    return TPESampler(seed=int.from_bytes(drawn[:4], "little"), n_startup_trials=RANDOM_TRIALS)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def find_studies(root: Path) -> list[Study]:
    """All searches below a results folder, by name."""
    folders = sorted(file.parent for file in root.glob(f"*/{JOURNAL}"))
    if not folders:
        raise ResultsError(f"no search lies in {root}; start one with editbench tune, or give results.dir=DIR")
    return [Study.read(folder) for folder in folders]

"""``editbench tune``: equal budgets for every method, on records that no stream edits; and what they gave."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from editbench import provenance
from editbench.config import ResultsConfig
from editbench.console import quiet_libraries, stoppable
from editbench.files import canonical, make_folder
from editbench.json_lines import encode
from editbench.progress import watching
from editbench.results.tables import console
from editbench.tuning import hparams_file, report
from editbench.tuning.start import OBJECTIVE, Start, start, trial_config
from editbench.tuning.study import Study, Tried, find_studies
from editbench.tuning.trial import Outcome, run_trial
from editbench.visible_text import one_line, visible

BUDGET = 30  # trials
FOLDER = "tuning"  # in the results folder
EPILOG = """examples:
  editbench tune method=rome model=pocket dataset=counterfact stream.edits=50
  editbench tune method=memit model=pocket method.layers=[0,1,2,3] stream.batch_size=10 --trials 30
  editbench tune --report
"""


def main(arguments: Sequence[str]) -> int:
    """Tune, or report. Returns the exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    options = parser().parse_intermixed_args(list(arguments))
    return stoppable(lambda: _done(options), "interrupted. Finished trials are kept; the same command goes on.")


def _done(options: argparse.Namespace) -> int:
    if find_spec("optuna") is None:
        raise ValueError("editbench tune needs the package optuna: pip install 'editbench[tune]'")
    return _report(options) if options.report else _tune(options)


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    found = argparse.ArgumentParser(
        prog="editbench tune",
        description="Find a method's settings for a model: the same number of trials for every method.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for editbench run; method.X=… is kept")
    found.add_argument("--trials", type=int, default=BUDGET, help=f"in all, with those done before (default {BUDGET})")
    found.add_argument("--seed", type=int, default=0, help="of the search and of its streams (default 0)")
    found.add_argument("--out", type=Path, metavar="DIR", help="folder for the settings (default: the method's own)")
    found.add_argument("--for-dataset", action="store_true", help="write MODEL-DATASET.yaml, for this dataset alone")
    found.add_argument("--replace", action="store_true", help="replace a file that no search wrote")
    found.add_argument("--keep-runs", action="store_true", help="keep the run folders of the trials")
    found.add_argument("--report", action="store_true", help="show the rank of methods by trials, and do nothing else")
    found.add_argument("--at", default=",".join(map(str, report.TRIALS)), help="trials of the report (default 0,10,30)")
    found.add_argument("--json", action="store_true", help="the report as one line of JSON a search")
    return found


def _report(options: argparse.Namespace) -> int:
    if wrong := [o for o in options.overrides if not o.startswith("results.dir=")]:
        raise ValueError(f"{wrong[0]!r} is not understood; --report takes results.dir=DIR alone")
    roots = [Path(o.partition("=")[2]).expanduser() for o in options.overrides] or [Path("results")]
    counts = [int(count) for count in options.at.split(",")]
    rows = report.ranks([study for root in roots for study in find_studies(root / FOLDER)], counts)
    if options.json:
        for row in rows:
            print(encode(row))
    else:
        console().print(report.table(rows))
    return 0


def _tune(options: argparse.Namespace) -> int:
    if options.trials < 0:
        raise ValueError(f"--trials is {options.trials}; it must be 0 or more")
    quiet_libraries()
    config = trial_config(options.overrides, options.seed)
    file = hparams_file.destination(config, options.out, options.for_dataset, options.replace)
    search = start(config, options.overrides)
    root = Path(search.config.results.dir)
    make_folder(root)
    make_folder(root / FOLDER)
    facts = _facts(search, options.seed)
    study = Study.open(root / FOLDER / _name(search, facts), facts)
    _try_untuned(search, study, options.keep_runs)
    _print_cost(search, study, options.trials)
    while _try_next(search, study, options):
        pass
    return _finish(search, study, file, options)


def _facts(search: Start, seed: int) -> dict[str, Any]:
    """All that decides what a trial is, as JSON types."""
    config = search.config
    return {
        "method": search.method,
        "model": config.model.name,
        "dataset": config.dataset.name,
        "edits": len(search.records),
        "batch_size": config.stream.batch_size,
        "objective": OBJECTIVE,
        "seed": seed,
        "space": {name: f"{type(one).__name__} {asdict(one)}" for name, one in search.space.items()},
        "fixed": {name: repr(value) for name, value in search.fixed.items()},
        "model_hash": search.model_hash,
        "records_hash": hparams_file.digest(search.records),
        "versions": provenance.versions(config.protocol, search.method),
    }


def _name(search: Start, facts: dict[str, Any]) -> str:
    """Name of the search's folder: readable parts, and a digest of the command's own part of the facts."""
    own = {name: facts[name] for name in ("space", "fixed", "seed", "edits", "objective")}
    plain = search.config.as_dict()
    own |= {name: plain[name] for name in ("model", "dataset", "stream", "protocol")}
    digest = hashlib.sha256(canonical(own)).hexdigest()[:8]
    parts = (facts["dataset"], facts["model"], facts["method"], f"e{facts['edits']}", f"s{facts['seed']}", digest)
    return "-".join("".join(c if c.isalnum() or c in "._" else "_" for c in str(part)) for part in parts)


def _try_untuned(search: Start, study: Study, keep: bool) -> None:
    """Measure the untuned settings, unless that is done or another process is at it."""
    if study.untuned is not None:
        return
    with study.claimed("untuned") as mine:
        if not mine:
            print("the untuned settings are being measured by another process")
            return
        print(f"measuring the untuned settings of {search.method}: {len(search.records)} edits")
        outcome = _run(search, study, search.untuned, "untuned", keep)
        study.set_untuned(search.untuned, outcome)
        print(_line("untuned", Tried(0, dict(search.untuned), outcome)))


def _run(search: Start, study: Study, values: Any, name: str, keep: bool) -> Outcome:
    """The outcome of one run of a search; a value that the method refuses makes it a failed one."""
    place = ResultsConfig(dir=str(study.folder / "trials"), name=name)
    try:
        config = search.run(values, place)
    except ValueError as error:
        return Outcome(0.0, "failed", f"{type(error).__name__}: {error}")
    with watching(f"{search.method}, {name}", live=True):
        return run_trial(config, keep)


def _print_cost(search: Start, study: Study, trials: int) -> None:
    """Print what the rest will cost, by the trials so far that were not cut short."""
    done, edits = study.tried, len(search.records)
    whole = [one.outcome for one in [*done, *filter(None, [study.untuned])] if one.outcome.edit_seconds]
    left = max(0, trials - len(done))
    if not whole:
        print(f"{left} trials of {edits} edits are left; nothing is known of their cost: no trial has edited yet")
        return
    each = sum(one.seconds for one in whole) / len(whole)
    edit = sum(one.edit_seconds for one in whole) / len(whole)
    print(
        f"{left} of {trials} trials are left: about {_clock(left * each)} in one process ({edits} edits a trial, "
        f"{edit / edits:.2f} s each, and {each - edit:.1f} s beside them; measured in {len(whole)} so far)",
        flush=True,
    )


def _clock(seconds: float) -> str:
    units = ((7200, 3600, "h"), (120, 60, "min"), (0, 1, "s"))
    _, length, unit = next(one for one in units if seconds >= one[0])
    return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"


def _try_next(search: Start, study: Study, options: argparse.Namespace) -> bool:
    """Do the next trial; False if none is left."""
    with study.next_trial(options.trials, search.space, search.n_layers, options.seed) as trial:
        if trial is None:
            return False
        outcome = _run(search, study, trial.settings, f"{trial.number:04d}", options.keep_runs)
        trial.tell(outcome)
        print(_line(f"trial {trial.number + 1}", Tried(trial.number, trial.settings, outcome)), flush=True)
        return True


def _line(name: str, tried: Tried) -> str:
    outcome = tried.outcome
    settings = " ".join(f"{key}={_compact(value)}" for key, value in tried.settings.items())
    failed = f"   {outcome.status}: {one_line(outcome.reason)}"[:160] if outcome.reason else ""
    return visible(f"{name}: {outcome.score:.3f}   {settings}   {outcome.seconds:.1f} s{failed}")


def _compact(value: Any) -> str:
    return "null" if value is None else str(value).replace(" ", "")


def _finish(search: Start, study: Study, file: Path, options: argparse.Namespace) -> int:
    """Write the best settings, and print them; the exit status."""
    done, best = study.tried, study.best()
    if study.untuned is None or len(done) < options.trials:
        print(f"{len(done)} of {options.trials} trials are done; other processes do the rest, and write the settings")
        return 0
    if best is None or not best.outcome.score:
        print(f"error: none of {len(done)} trials has a score above 0; nothing was written", file=sys.stderr)
        return 1
    hparams_file.write(file, search, study, options.seed)
    print("\n" + _line(f"best of {len(done)} trials: {best.number or 'untuned'}", best))
    print(f"settings: {file}\ntrials: {study.folder}")
    kept = [o for o in options.overrides if not o.startswith(("hparams=", "method.", "results."))]
    found = {**search.fixed, **best.settings} if options.out else {}
    settings = [f"method.{name}={_compact(value)}" for name, value in found.items()]
    print(shlex.join(["editbench", "run", *kept, *settings]))
    return 0

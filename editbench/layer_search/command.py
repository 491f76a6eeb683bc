"""``editbench locate``: causal tracing and a sweep of single edits, to choose the layers to edit in a model."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from editbench import datasets
from editbench.compose import compose
from editbench.config import RunConfig
from editbench.console import json_lines, quiet_libraries, stoppable
from editbench.datasets.splits import TUNE
from editbench.evaluation.evaluator import Evaluator
from editbench.evaluation.questions import check_headline
from editbench.evaluation.unedited import ask_unedited
from editbench.files import write_atomic
from editbench.json_lines import encode
from editbench.layer_search.causal_tracing import NothingToTrace, Trace, TraceConfig, trace
from editbench.layer_search.layer_sweep import CONTRAST, METHOD, Choice, LayerScore, choose_layers, sweep_layers
from editbench.layer_search.report import sweep_table, trace_table, write_plot
from editbench.model import language_model
from editbench.model.chat_template import format_of
from editbench.provenance import environment
from editbench.records import RecordSet
from editbench.resources import Resources
from editbench.results.tables import console
from editbench.stream import Stream
from editbench.threads import set_threads
from editbench.visible_text import visible

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

EDITS = 16
EPILOG = """examples:
  editbench locate model.path=DIR_OR_HUB_ID dataset=counterfact dataset.path=counterfact.json
  editbench locate model=llama-2-7b dataset.path=counterfact.json stream.edits=32 --layers 0-15 --sweep-only
"""


@dataclass
class Search:
    """Parts of a search, its measurements, and the seconds of each; a part that was not asked for has none."""

    config: RunConfig
    lm: LanguageModel
    records: RecordSet
    stream: Stream
    trace: Trace | None = None
    scores: list[LayerScore] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def main(arguments: Sequence[str]) -> int:
    """Search for layers. Returns the exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    options = _parser().parse_intermixed_args(list(arguments))
    try:
        config = _compose(options.overrides)
        layers = _layers(options.layers)
    except ValueError as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return 2

    def work() -> int:
        with json_lines() if options.json else nullcontext() as lines:
            _locate(config, layers, options, lines)
        return 0

    return stoppable(work, "interrupted; nothing was written")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="editbench locate",
        description="Which layers to edit in a model: causal tracing, and single ROME edits at every layer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help=f"as for editbench run; stream.edits is {EDITS} by default"
    )
    parser.add_argument("--layers", metavar="LIST", help="only these, for example 0,1,2 or 4-8 (default: all)")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--trace-only", action="store_true", help="causal tracing alone: nothing is edited")
    parts.add_argument("--sweep-only", action="store_true", help="the edits alone")
    parser.add_argument("--samples", type=int, default=10, help="tracing: noise samples a record (default 10)")
    parser.add_argument(
        "--window", type=int, help="tracing: layers whose MLPs are restored together (default 10 of 48)"
    )
    parser.add_argument("--json", action="store_true", help="locate.json in one line on standard output, nothing else")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the files (default: locate-MODEL)")
    return parser


def _compose(overrides: Sequence[str]) -> RunConfig:
    """The run's config, with ROME and a short stream, of records for tuning where a dataset reserves such.

    A ValueError for another method, or a layer: all are tried.
    """
    keys = [override.partition("=")[0] for override in overrides]
    if bad := [o for o in overrides if "=" not in o]:
        raise ValueError(f"{bad[0]!r} is not understood; give settings as KEY=VALUE")
    if "method.layer" in keys:
        raise ValueError("method.layer is the result of the search; choose the layers to try with --layers 0,1,2")
    if other := [o for o in overrides if o.startswith("method=") and o != f"method={METHOD}"]:
        raise ValueError(f"layers are tried with {METHOD}, not with {other[0]}; leave it out")
    added = [] if "stream.edits" in keys else [f"stream.edits={EDITS}"]
    added += ["method.layer=0", "stream.batch_size=1", "stream.evaluate_at=[]", "stream.stop_when=[]"]
    config = compose([*overrides, *added])
    if "dataset.split" not in keys and datasets.find(config.dataset.name).reserved:
        config.dataset.split = TUNE
    return config


def _layers(text: str | None) -> list[int] | None:
    """Layer numbers from "0,1,2" or "4-8,12", ascending; None for all."""
    if text is None:
        return None
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"--layers {text} is not understood; give numbers like 0,1,2 or ranges like 4-8")
        found.update(range(int(first), int(last or first) + 1))
    if not found:
        raise ValueError(f"--layers {text} holds no layer")
    return sorted(found)


def _locate(config: RunConfig, layers: list[int] | None, options: argparse.Namespace, lines: IO[str] | None) -> None:
    quiet_libraries()
    records = datasets.from_config(config.dataset, format_of(config.dataset, config.model))
    stream = Stream.build(records, config.stream)
    lm = language_model.load_model(config.model)
    set_threads(lm.model, setting=config.threads)
    wanted = list(range(lm.n_layers)) if layers is None else layers
    for layer in wanted:
        lm.mlp_out(layer)  # refuses a layer that does not exist
    folder = options.out or Path(f"locate-{lm.name}")
    folder.mkdir(parents=True, exist_ok=True)
    search = Search(config, lm, records, stream)
    if not options.sweep_only:
        _trace(search, wanted, options)
    if not options.trace_only:
        _sweep(search, wanted)
    choice = _choice(search)
    facts = _facts(search, choice)
    write_atomic(folder / "locate.json", (encode(facts, indent=1) + "\n").encode())
    if lines is not None:
        print(encode(facts), file=lines)
    _show(search)
    _draw(folder / "locate.html", search)
    print(f"files: {folder}")
    _advise(choice, config, options.overrides)


def _trace(search: Search, layers: list[int], options: argparse.Namespace) -> None:
    begun = time.perf_counter()
    tracing = TraceConfig(samples=options.samples, window=options.window, seed=search.config.stream.seed)
    try:
        search.trace = trace(search.lm, [record.request for record in search.stream.records], layers, tracing)
    except NothingToTrace as error:
        if options.trace_only:
            raise
        print(f"no tracing, only the sweep: {error}", file=sys.stderr)
    search.seconds["trace"] = time.perf_counter() - begun


def _sweep(search: Search, layers: list[int]) -> None:
    begun, config, lm, records = time.perf_counter(), search.config, search.lm, search.stream.records
    headline, tokens = config.protocol.headline, config.protocol.tokens_per_batch
    metrics = sorted({measure.partition(".")[2] for measure in (*headline.values(), CONTRAST)})
    check_headline(headline, metrics)
    resources = Resources.build(lm, config.model, config.cache, config.stream.seed, search.records.prompt_format)
    folder = config.cache / "unedited"
    unedited = ask_unedited(lm, records, model_fingerprint=lm.fingerprint, cache=folder, tokens_per_batch=tokens)
    evaluator = Evaluator(lm, unedited=unedited, metrics=metrics, tokens_per_batch=tokens)
    settings = asdict(config.method.settings)
    search.scores = sweep_layers(lm, records, layers, evaluator, headline, resources, settings)
    search.seconds["sweep"] = time.perf_counter() - begun


def _choice(search: Search) -> Choice | None:
    """The best layer by the sweep's score; without a sweep, by the effect of the MLPs at the subject."""
    if search.scores:
        scores = {score.layer: score.score for score in search.scores if score.score is not None}
        return choose_layers(scores, search.lm.n_layers, "score of the sweep")
    assert search.trace is not None
    effects = zip(search.trace.layers, search.trace.indirect["mlp.subject"], strict=True)
    means = {layer: effect["mean"] for layer, effect in effects if effect["mean"] is not None}
    return choose_layers(means, search.lm.n_layers, "indirect effect of the MLPs at the subject's last token")


def _facts(search: Search, choice: Choice | None) -> dict[str, Any]:
    config, lm, records, stream = search.config, search.lm, search.records, search.stream
    return {
        "model": {"name": lm.name, "path": config.model.path, "hash": lm.fingerprint},
        "dataset": {"name": records.name, "path": config.dataset.path, "hash": records.fingerprint},
        "stream": {"hash": stream.fingerprint, "edits": len(stream), "seed": config.stream.seed},
        "settings": {k: v for k, v in asdict(config.method.settings).items() if k != "layer"},
        "choice": asdict(choice) if choice is not None else None,
        "trace": asdict(search.trace) if search.trace is not None else None,
        "scores": [asdict(score) for score in search.scores],
        "headline": config.protocol.headline,
        "seconds": search.seconds,
        "environment": environment(),
    }


def _show(search: Search) -> None:
    if search.trace is not None:
        console().print(trace_table(search.trace))
        if search.trace.left_out:
            print(f"not traced: {len(search.trace.left_out)} records; locate.json says why")
    if search.scores:
        console().print(sweep_table(search.scores, search.config.protocol.headline))


def _draw(file: Path, search: Search) -> None:
    title, headline = f"{search.lm.name}: which layers to edit", search.config.protocol.headline
    try:
        write_plot(file, title, search.trace, search.scores, headline)
    except ImportError:
        file.unlink(missing_ok=True)  # an older plot would not belong to these numbers
        print("no plot: plotly is not installed (pip install 'editbench[plots]')", file=sys.stderr)


def _advise(choice: Choice | None, config: RunConfig, overrides: Sequence[str]) -> None:
    """Print settings to keep, and a command to copy."""
    if choice is None:
        print("no layer can be recommended: no number is above zero. Look at values found, then at method.steps and")
        print("method.learning_rate; and whether the model knows these records (the clean p of the trace)")
        return
    used, default = config.method.settings, type(config.method.settings)()
    values = {f.name: getattr(used, f.name) for f in fields(used) if f.name != "layer"}
    changed = {name: value for name, value in values.items() if value != getattr(default, name)}
    rome = "\n".join(f"{k}: {v}" for k, v in {"layer": choice.layer, **changed}.items())
    layers, file = list(choice.layers), f"hparams/tuned/{config.model.name}.yaml"
    print(f"\nby the {choice.by}: layer {choice.layer} for ROME, {layers} for MEMIT and NSE. To keep it:\n")
    print(f"# methods/{METHOD}/{file}\n{rome}\n")
    print(f"# methods/memit/{file}, methods/nse/{file}\nlayers: {layers}\n")
    kept = [o for o in overrides if not o.startswith(("stream.", "method=", "dataset.split="))]
    print(shlex.join(["editbench", "run", f"method={METHOD}", f"method.layer={choice.layer}", *kept]))

"""``editbench locate``: which layers to edit in this model? Composes like ``editbench run``, measures, tells."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from editbench import datasets, registry
from editbench.compose import compose
from editbench.config import StreamConfig, settings_of
from editbench.console import json_lines, quiet_libraries
from editbench.evaluation.protocol import headline_of
from editbench.files import write_atomic
from editbench.json_lines import encode
from editbench.layer_search.layer_sweep import METHOD, Choice, choose
from editbench.model import language_model
from editbench.results.tables import console
from editbench.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editbench.layer_search.causal_tracing import Trace
    from editbench.layer_search.layer_sweep import LayerScore
    from editbench.model.language_model import LanguageModel
    from editbench.records import RecordSet


EDITS = 16

EPILOG = """examples:
  editbench locate model.path=DIR_OR_HUB_ID dataset=counterfact dataset.path=counterfact.json
  editbench locate model=llama-2-7b dataset.path=counterfact.json stream.edits=32 --layers 0-15 --sweep-only
"""


@dataclass
class Findings:
    """What was measured, and how long it took in seconds. Empty where it was not asked for."""

    trace: Trace | None
    scores: list[LayerScore]
    headline: dict[str, str]
    seconds: dict[str, float]


def main(arguments: Sequence[str]) -> int:
    """Do what ``arguments`` ask for. Returns the exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    options = _parser().parse_intermixed_args(list(arguments))
    try:
        config = _compose(options.overrides)
        layers = _layers(options.layers)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        with json_lines() if options.json else nullcontext() as lines:
            _locate(config, layers, options, lines)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


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


def _compose(overrides: Sequence[str]) -> Any:
    """The run's configuration, with ROME and a short stream.

    Raises:
        ValueError: An unknown key or name, another method, or a layer (all layers are tried).
    """
    keys = [override.partition("=")[0] for override in overrides]
    if bad := [o for o in overrides if "=" not in o]:
        raise ValueError(f"{bad[0]!r} is not understood; give settings as KEY=VALUE")
    if "method.layer" in keys:
        raise ValueError("method.layer is what is looked for; choose the layers to try with --layers 0,1,2")
    if other := [o for o in overrides if o.startswith("method=") and o != f"method={METHOD}"]:
        raise ValueError(f"layers are tried with {METHOD}, not with {other[0]}; leave it out")
    added = [] if "stream.edits" in keys else [f"stream.edits={EDITS}"]
    return compose([*overrides, *added, "method.layer=0"])


def _layers(text: str | None) -> list[int] | None:
    """Layer numbers from "0,1,2" or "4-8,12", ascending; None for all.

    Raises:
        ValueError: It is something else.
    """
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


def _locate(config: Any, layers: list[int] | None, options: argparse.Namespace, lines: IO[str] | None) -> None:
    """Load, measure, write and tell."""
    quiet_libraries()
    name, settings = settings_of(config.dataset)
    records = datasets.load(name, settings.pop("path"), **settings)
    names = [f.name for f in fields(StreamConfig) if f.name not in ("batch_size", "evaluate_at")]
    stream = Stream.build(records, StreamConfig(**{n: config.stream[n] for n in names}))
    model_name = config.model.name or Path(str(config.model.path)).name
    lm = language_model.load_model(config.model, name=model_name)
    wanted = list(range(lm.n_layers)) if layers is None else layers
    for layer in wanted:
        lm.mlp_out(layer)  # refuses a layer that does not exist
    folder = options.out or Path(f"locate-{model_name}")
    folder.mkdir(parents=True, exist_ok=True)
    findings = _measure(lm, records, stream, wanted, config, options)
    choice = _choice(findings, lm.n_layers)
    facts = _facts(lm, records, stream, config, findings, choice)
    write_atomic(folder / "locate.json", (encode(facts, indent=1) + "\n").encode())
    if lines is not None:
        print(encode(facts), file=lines)
    _show(findings)
    _draw(folder / "locate.html", f"{model_name}: which layers to edit", findings)
    print(f"files: {folder}")
    _advise(choice, model_name, config, options.overrides)


def _measure(
    lm: LanguageModel, records: RecordSet, stream: Stream, layers: list[int], config: Any, options: argparse.Namespace
) -> Findings:
    from editbench.layer_search.causal_tracing import NothingToTrace, TraceConfig, trace

    found = Findings(None, [], headline_of(config.protocol, records.name), {})
    if not options.sweep_only:
        begun = time.perf_counter()
        tracing = TraceConfig(samples=options.samples, window=options.window, seed=config.stream.seed)
        try:
            found.trace = trace(lm, [record.request for record in stream.records], layers, tracing)
        except NothingToTrace as error:
            if options.trace_only:
                raise
            print(f"no tracing, only the sweep: {error}", file=sys.stderr)
        found.seconds["trace"] = time.perf_counter() - begun
    if not options.trace_only:
        begun = time.perf_counter()
        found.scores = _sweep(lm, stream, layers, config, found.headline)
        found.seconds["sweep"] = time.perf_counter() - begun
    return found


def _sweep(
    lm: LanguageModel, stream: Stream, layers: list[int], config: Any, headline: dict[str, str]
) -> list[LayerScore]:
    from editbench.evaluation import Evaluator, ask_unedited
    from editbench.evaluation.protocol import check_headline
    from editbench.layer_search.layer_sweep import CONTRAST, sweep
    from editbench.resources import LazyTexts, Resources

    model, cache, seed = config.model, Path(config.cache), config.stream.seed
    resources = Resources(
        texts=LazyTexts(lm, str(model.texts), model.texts_tokens, seed),
        templates=list(model.templates) if model.templates is not None else None,
        covariance=model.covariance,
        cache=cache,
        seed=seed,
    )
    tokens = config.protocol.tokens_per_batch
    unedited = ask_unedited(
        lm, stream.records, model_fingerprint=lm.fingerprint, cache=cache / "unedited", tokens_per_batch=tokens
    )
    metrics = sorted({measure.partition(".")[2] for measure in (*headline.values(), CONTRAST)})
    check_headline(headline, metrics)
    evaluator = Evaluator(lm, unedited=unedited, metrics=metrics, tokens_per_batch=tokens)
    return sweep(lm, stream.records, layers, evaluator, headline, resources, settings_of(config.method)[1])


def _choice(findings: Findings, n_layers: int) -> Choice | None:
    """The sweep decides where there is one, by score; the trace otherwise, by what the MLPs do at the subject."""
    if findings.scores:
        scores = {score.layer: score.score for score in findings.scores if score.score is not None}
        return choose(scores, n_layers, "score of the sweep")
    assert findings.trace is not None
    effects = zip(findings.trace.layers, findings.trace.indirect["mlp.subject"], strict=True)
    means = {layer: effect["mean"] for layer, effect in effects if effect["mean"] is not None}
    return choose(means, n_layers, "indirect effect of the MLPs at the subject's last token")


def _facts(
    lm: LanguageModel, records: RecordSet, stream: Stream, config: Any, findings: Findings, choice: Choice | None
) -> dict[str, Any]:
    from editbench.provenance import environment

    return {
        "model": {"name": lm.name, "path": str(config.model.path), "hash": lm.fingerprint},
        "dataset": {"name": records.name, "path": str(config.dataset.path), "hash": records.fingerprint},
        "stream": {"hash": stream.fingerprint, "edits": len(stream), "seed": config.stream.seed},
        "settings": {k: v for k, v in settings_of(config.method)[1].items() if k != "layer"},
        "choice": asdict(choice) if choice is not None else None,
        **asdict(findings),
        "environment": environment(),
    }


def _show(findings: Findings) -> None:
    from editbench.layer_search.report import sweep_table, trace_table

    if findings.trace is not None:
        console().print(trace_table(findings.trace))
        if findings.trace.left_out:
            print(f"not traced: {len(findings.trace.left_out)} records; locate.json says why")
    if findings.scores:
        console().print(sweep_table(findings.scores, findings.headline))


def _draw(file: Path, title: str, findings: Findings) -> None:
    from editbench.layer_search.report import write_plot

    try:
        write_plot(file, title, findings.trace, findings.scores, findings.headline)
    except ImportError:
        file.unlink(missing_ok=True)  # an older plot would not belong to these numbers
        print("no plot: plotly is not installed (pip install 'editbench[plots]')", file=sys.stderr)


def _advise(choice: Choice | None, model_name: str, config: Any, overrides: Sequence[str]) -> None:
    """What to do with it: settings to keep, and a command to copy."""
    if choice is None:
        print("no layer can be recommended: no number is above zero. Look at values found, then at method.steps and")
        print("method.learning_rate; and whether the model knows these records (the clean p of the trace)")
        return
    method = registry.load_method(METHOD).config_class
    defaults = {f.name: getattr(method(), f.name) for f in fields(method)}
    used = settings_of(config.method)[1]
    changed = {k: v for k, v in used.items() if k != "layer" and v != defaults[k]}
    rome = "\n".join(f"{k}: {v}" for k, v in {"layer": choice.layer, **changed}.items())
    layers = list(choice.layers)
    print(f"\nby the {choice.by}: layer {choice.layer} for ROME, {layers} for MEMIT and NSE. To keep it:\n")
    print(f"# @package method\n# conf/method_model/{METHOD}-{model_name}.yaml\n{rome}\n")
    print(f"# @package method\n# conf/method_model/memit-{model_name}.yaml, nse-{model_name}.yaml\nlayers: {layers}\n")
    kept = [o for o in overrides if not o.startswith(("stream.", "method="))]
    print(shlex.join(["editbench", "run", f"method={METHOD}", f"method.layer={choice.layer}", *kept]))

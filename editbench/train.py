"""``editbench train``: train what a method learns, on the records of the split "train"; runs find it in the cache."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench import compose, datasets, plugins, registry
from editbench.console import quiet_libraries, stoppable
from editbench.datasets.splits import TRAIN
from editbench.editor import Editor
from editbench.gradient_based import network_files
from editbench.gradient_based.network_config import UNTRAINED
from editbench.ledger import Ledger
from editbench.model import language_model
from editbench.model.chat_template import format_of
from editbench.progress import watching
from editbench.resources import Resources
from editbench.threads import restored_threads, set_threads

if TYPE_CHECKING:
    from editbench.config import RunConfig

WITHOUT = ("stream.", "dataset.limit=", "results.", "hydra.")
"""Beginnings of settings that belong to a run: a training takes all records of its split, once an epoch."""
EPILOG = """examples:
  editbench train method=mend model=pocket dataset=counterfact
  editbench train method=rledit model=smollm2-135m dataset=counterfact
  editbench train method=mend model=pocket --out mend.safetensors
"""


def main(arguments: Sequence[str]) -> int:
    """Train. Returns the exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    options = parser().parse_intermixed_args(list(arguments))
    goes_on = "interrupted. The same command goes on from the last saved state."
    return stoppable(lambda: _train(training_config(options.overrides), options), goes_on)


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    found = argparse.ArgumentParser(
        prog="editbench train",
        description="Train what a method learns for a model, on records that no stream edits.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for editbench run: model, dataset, method")
    found.add_argument("--out", type=Path, metavar="FILE", help="file of the network (default: in the cache)")
    return found


def training_config(overrides: Sequence[str]) -> RunConfig:
    """The run whose method is trained. A ValueError says what is wrong."""
    if any(o.startswith("dataset.split=") and o != f"dataset.split={TRAIN}" for o in overrides):
        raise ValueError(f"a method is trained on the records of dataset.split={TRAIN}, and no others; leave it out")
    if wrong := next((o for o in overrides if o.startswith(WITHOUT)), None):
        raise ValueError(f"{wrong.partition('=')[0]} belongs to a run: a training takes all records; leave it out")
    if any(o.startswith("method.network=") for o in overrides):
        raise ValueError("method.network says which network edits; a training begins with a new one: leave it out")
    config = compose.compose([*overrides, f"dataset.split={TRAIN}"])
    if registry.load_method(config.method.name).train is Editor.train:
        methods = {name: registry.load_method(name) for name in plugins.entry_points(plugins.METHODS)}
        known = [name for name, method in methods.items() if method.train is not Editor.train]
        raise ValueError(f"{config.method.name} has nothing to train; methods that have: {', '.join(known)}")
    return config


def _train(config: RunConfig, options: argparse.Namespace) -> int:
    quiet_libraries()
    name = config.method.name
    dataset = replace(config.dataset, split=TRAIN, limit=None)
    records = datasets.from_config(dataset, format_of(dataset, config.model))
    with restored_threads():
        lm = language_model.load_model(config.model)
        set_threads(lm.model, None, config.threads)
        resources = Resources.build(
            lm,
            config.model,
            config.cache,
            config.stream.seed,
            records.prompt_format,
            load_training_records=lambda: records.records,
            dataset=dataset.name,
        )
        settings: Any = replace(config.method.settings, network=UNTRAINED)  # type: ignore[type-var]
        editor = registry.load_method(name)(lm, Ledger(lm), settings, resources)
        print(f"training {name} for {lm.name}: {len(records)} records of {dataset.name}, split {TRAIN}", flush=True)
        with watching(f"{name}, {lm.name}, {dataset.name}"):
            file = editor.train(options.out)
    _report(network_files.read(file), file, options)
    return 0


def _report(trained: network_files.TrainedNetwork, file: Path, options: argparse.Namespace) -> None:
    """Print the losses, the file, and the command that uses it."""
    history = trained.facts["history"]
    for epoch in dict.fromkeys((0, len(history) - 1)):
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in history[epoch].items())
        print(f"losses of epoch {epoch + 1} of {len(history)}: {losses}")
    print(f"network: {file} ({file.stat().st_size / 1e6:.1f} MB, {trained.facts['seconds']:.0f} s of training)")
    given = [f"method.network={file}"] if options.out else []
    print(shlex.join(["editbench", "run", *options.overrides, *given]))

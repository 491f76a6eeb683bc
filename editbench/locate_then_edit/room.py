"""Room that methods take which find values at the subject and write them by a covariance (:mod:`editbench.room`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from editbench.locate_then_edit.covariance import TOKENS_AT_ONCE
from editbench.locate_then_edit.solver import BLOCK
from editbench.locate_then_edit.values import CPU_BYTES, numbers_of_rows
from editbench.room import Room, Workload, grown, of_changes

if TYPE_CHECKING:
    from editbench.locate_then_edit.multi_layer import LayersConfig
    from editbench.model.shape import Shape

FACTORED = 3.25  # matrices beside those kept, while one is factored: a copy, the factor, and a look at its numbers
FACTOR_TYPE = 4  # bytes: keys and values of a change are in float32, or wider


def of_values(shape: Shape, work: Workload, layer: int, templates: Sequence[int], at_once: int) -> int:
    """Bytes of the optimisation of so many edits' values at a layer, behind templates of these lengths (and alone)."""
    rows, context = 1 + len(templates), work.prompt - work.tail
    own = rows * (work.tail + work.answer - 1) + 1  # and the subject of the KL row
    left = sum(templates) + rows * context + context
    if not shape.gpu:
        longest = max(templates, default=0) + work.row
        numbers = numbers_of_rows(round(longest), shape.layers - layer, shape.width, shape.inputs(layer))
        at_once = min(at_once, max(1, CPU_BYTES // (numbers * shape.of_a_number) // (rows + 1)))
    predicted = at_once * (rows * work.answer + 1)
    before = round(
        at_once * left * shape.layers * shape.keys * shape.of_a_number
    )  # keys and values left of the subjects
    return before + shape.training(at_once * own, predicted, shape.layers - layer - 1, beside=at_once * left)


def of_covariance(shape: Shape, layers: Sequence[int]) -> Room:
    """Room while the covariance of layers is taken, and for its files."""
    matrices = sum(map(shape.covariance, layers))
    product = max(map(shape.covariance, layers), default=0) // 2  # float32
    return Room(preparing=matrices + product + shape.working(TOKENS_AT_ONCE), cache=matrices)


def of_layers(
    shape: Shape,
    work: Workload,
    config: LayersConfig,
    *,
    at_once: int,
    remembers: bool,
    matrices: float = 1.0,
    rounds: int = 1,
) -> Room:
    """Room of a method that writes a batch over several layers.

    Args:
        at_once: Edits whose values are found together.
        remembers: Whether the keys of earlier edits are kept.
        matrices: Kept of a layer, in sizes of its covariance.
        rounds: In which a batch is written, at most.
    """
    layers, batch = config.layers, work.batch
    templates = work.contexts([config.template_tokens + 2] * len(config.template_starts))  # with start and full stop
    taken, largest = of_covariance(shape, layers), max(map(shape.covariance, layers))
    kept = round(taken.cache * matrices)
    factored = taken.cache + round(FACTORED * largest)
    memory = sum(_keys(shape.inputs(layer), work.edits) for layer in layers) if remembers else 0
    saved = sum(8 * shape.inputs(layer) * min(work.edits, shape.inputs(layer)) for layer in layers) if remembers else 0
    change = rounds * sum((shape.inputs(layer) + shape.width) * batch * FACTOR_TYPE for layer in layers)
    written = of_changes([shape.weight(layer) for layer in layers], shape, work, change)
    solves = 4 * 8 * shape.inputs(layers[-1]) * (batch + (BLOCK if remembers else 0))
    values = of_values(shape, work, layers[-1], templates, at_once)
    passed = shape.working(batch * ((1 + len(templates)) * work.prompt + sum(templates)))  # keys and hidden states
    return written + Room(
        kept=kept + memory,
        preparing=max(taken.preparing, factored),
        editing=max(values, passed + solves),
        disk=saved,  # in the checkpoint
        cache=taken.cache,
    )


def _keys(inputs: int, edits: int) -> int:
    """Bytes of the keys of so many edits, and of their own factor, in float64; memory doubles when it is full."""
    count = min(edits, max(1, inputs // 2))  # then they are compacted
    return 8 * (grown(count, BLOCK) * inputs + count * count)

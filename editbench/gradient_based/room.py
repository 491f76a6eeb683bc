"""Room that methods take which make an edit of the gradients of some modules (:mod:`editbench.room`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from editbench.room import Room, Workload, of_changes

if TYPE_CHECKING:
    from editbench.gradient_based.network_config import NetworkConfig
    from editbench.model.shape import Shape


class Passes(Protocol):
    """Settings of the passes: edits of one."""

    edits_at_once: int


def of_passes(
    shape: Shape, work: Workload, config: Passes, sizes: Sequence[tuple[int, int]], first: int, tokens: float
) -> Room:
    """Room of a batch's passes and of the changes that are made of them.

    Args:
        sizes: (in, out) of the edited modules.
        first: Layer of the first of them.
        tokens: Of an edit, whose inputs and gradients are used.
    """
    at_once = min(work.batch, config.edits_at_once)
    features = sum(into + out for into, out in sizes)
    used = work.batch * tokens
    statistics = 2 * sum(sum(size) for size in set(sizes)) * shape.wide
    whole = [min(into * out, used * (into + out)) for into, out in sizes]
    written = of_changes([into * out for into, out in sizes], shape, work, sum(whole) * shape.wide + statistics)
    passed = shape.training(at_once * work.longest, at_once * work.answer, shape.layers - first - 1)
    held = at_once * work.longest * features * shape.of_a_number  # each module's inputs, and the gradient at its output
    seen = round(2 * used * features * shape.wide)  # of all parts, and joined
    largest = max((into + out for into, out in sizes), default=0)
    solved = seen + round(sum(whole) * shape.wide + 4 * 8 * used * largest)
    return written + Room(kept=statistics, editing=round(max(seen // 2 + passed + held, solved)))


def of_network(config: NetworkConfig, sizes: Sequence[tuple[int, int]]) -> int:
    """Numbers of the network for modules of these sizes: one a shape, with scale and shift for each module."""
    shapes = [(sum(size), list(sizes).count(size)) for size in set(sizes)]
    return sum(config.blocks * width * (2 * config.rank + 1 + 2 * modules) for width, modules in shapes)


def named_layers(modules: Sequence[str] | None) -> list[int]:
    """The layers of modules, by the numbers in their names."""
    return [int(part) for name in modules or () for part in name.split(".") if part.isdecimal()]

"""What a layer must write so that the last edited layer's output goes its share of the way to the values.

MEMIT's share is R = (Z - H) / (layers left), since what is added at a layer's projection leaves the layer as it is, and
arrives at the last one nearly so. Behind a norm (:mod:`editbench.postnorm`) neither holds: h = base + N(x). Then

- the last layer's own part of the way leads along what its norm can give, x going straight from where it is to where N
  is nearest to what is missing; the others take the rest, which the last one cannot give;
- a layer that is to move its output by r writes the w for which N(x + w) is nearest to N(x) + r.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.host import Host
    from editbench.locate.spread import SpreadState


def share(host: Host, layer: int, last: int, left: int, targets: Tensor, seen: SpreadState) -> Tensor:
    """R of one layer.

    Args:
        host: The model.
        layer: The layer that writes.
        last: The last edited layer.
        left: Layers that still write, this one among them.
        targets: Z (d, n).
        seen: On the current weights.

    Returns:
        (d, n) by what the layer's second projection should change its output.
    """
    missing = targets.to(seen.hidden) - seen.hidden
    norm, here = host.post_norm(last), host.post_norm(layer)
    if norm is None or left == 1:
        move = missing / left
    else:
        x = seen.norm_inputs[last]
        goal = norm(x) + missing.T
        move = (goal - norm(x + (1 - 1 / left) * (norm.towards(x, goal) - x))).T
    if here is None:
        return move
    x = seen.norm_inputs[layer]
    return (here.towards(x, here(x) + move.T.to(x)) - x).T


def out_of_reach(host: Host, last: int, targets: Tensor, seen: SpreadState) -> Tensor:
    """The part of Z - H (d, n) that the last layer's norm cannot give from where its input is now."""
    norm, missing = host.post_norm(last), targets.to(seen.hidden) - seen.hidden
    if norm is None:
        return missing * 0
    x = seen.norm_inputs[last]
    return missing - (norm(norm.towards(x, norm(x) + missing.T)) - norm(x)).T

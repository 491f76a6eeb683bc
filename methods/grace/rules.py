"""Rules: what an edit does to the codebook, by the distance of its key to the nearest one and by their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .codebook import Change, Codebook, Left
from .config import EASYEDIT, MOVING_AVERAGE, SOUND, GRACEConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from editbench.records import EditRequest

    KeysOf = Callable[[Sequence[str]], Tensor]

SAME_KEY = 1e-4  # a key nearer than this share of its norm is the same prompt's
MARGIN = 1e-3  # an expanded radius exceeds the distance by this share, so that rounding does not decide
GAP = 1e-5  # between the radii after a split
ROUNDING = 4  # a prompt's key differs from batch to batch by so many times the dtype's epsilon, as a share of its norm


def label_mean(prompt_tokens: int, label: tuple[int, ...]) -> float:
    """What the published code compares: the mean of the label row, -100 at each token of the prompt."""
    return (sum(label) - 100 * prompt_tokens) / (prompt_tokens + len(label))


def decide(
    codebook: Codebook,
    request: EditRequest,
    key: Tensor,
    prompt_tokens: int,
    label: tuple[int, ...],
    config: GRACEConfig,
    nearest: tuple[int, float] | None = None,
    keys_of: KeysOf | None = None,
    rounding: float = 0.0,
) -> Change:
    """The change for an edit with ``key`` (d_in), whose value is still to be trained.

    Args:
        nearest: Place and distance of the entry nearest to the key; None: it is searched.
        keys_of: Keys (n, d_in) of prompts, asked where another answer comes to the prompt at the key of an entry that
            serves others, too.
        rounding: Share of its norm by which a key may differ from that of the same prompt in another batch.
    """
    mean = label_mean(prompt_tokens, label)

    def change(event: str, entry: int, radius: float, **more: object) -> Change:
        return Change(request.id, request.prompt, event, entry, radius, label, mean, **more)  # type: ignore[arg-type]

    if not len(codebook):
        return change("add", codebook.next, config.radius, key=key)
    place, distance = nearest or codebook.nearest(key[None])[0]
    radius, number = codebook.radii[place], codebook.numbers[place]
    sound = config.rules == SOUND
    norm, item = float(key.norm()), codebook.items[place]
    same_key, prompts = distance <= SAME_KEY * norm or request.prompt == item.at, set(item.edits.values())
    same_prompt = sound and (same_key or request.prompt in prompts)
    if distance > radius + config.radius and not same_prompt:
        return change("add", codebook.next, config.radius, key=key)
    if _same_answer(codebook, place, label, mean, config.rules):
        if distance <= radius:
            return change("reuse", number, radius)
        moved = (codebook.keys[place] + key) / 2 if config.expand == MOVING_AVERAGE else None
        reach = distance * (1 + MARGIN) + rounding * norm if sound else distance
        return change("expand", number, reach, key=moved)
    left = None
    if same_prompt and same_key:
        left = _prompt_left(codebook, place, key, sorted(prompts - {request.prompt}), keys_of)
        distance = float((left.key - key).norm()) if left is not None else distance
    if same_prompt and left is None and (same_key or prompts == {request.prompt}):
        return change("replace", number, radius, key=key if distance > radius else None)
    half = distance / 2
    shrunk, own = half - GAP, half
    if sound:
        shrunk, own = min(radius, shrunk), min(config.radius, own)
    return change("split", codebook.next, own, key=key, shrunk=(number, shrunk), left=left)


def _prompt_left(
    codebook: Codebook, place: int, key: Tensor, prompts: list[str], keys_of: KeysOf | None
) -> Left | None:
    """Of the other prompts that an entry answers the nearest that is not at ``key``, to which the entry moves."""
    if not prompts or keys_of is None:
        return None
    keys = keys_of(prompts).to(key)
    distances = (keys - key).norm(dim=1)
    elsewhere = torch.tensor([at != place for at, _ in codebook.nearest(keys)], device=key.device)
    distances[elsewhere | (distances <= SAME_KEY * key.norm())] = float("inf")
    at = int(distances.argmin())
    return Left(prompts[at], keys[at]) if distances[at].isfinite() else None


def _same_answer(codebook: Codebook, place: int, label: tuple[int, ...], mean: float, rules: str) -> bool:
    if rules == SOUND:
        return codebook.items[place].label == label
    at = len(codebook) - 1 - place if rules == EASYEDIT else place
    return codebook.items[at].label_mean == mean

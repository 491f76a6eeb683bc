"""Rules: what an edit does to the codebook, by the distance of its key to the nearest one and by their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .codebook import Change, Codebook
from .config import EASYEDIT, MOVING_AVERAGE, SOUND, GRACEConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from editbench.records import EditRequest

    KeysOf = Callable[[Sequence[str]], Tensor]

SAME_KEY = 1e-4  # a key nearer than this share of its norm is the same prompt's
MARGIN = 1e-3  # an expanded radius exceeds the distance by this share, so that rounding does not decide
GAP = 1e-5  # between the radii after a split


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
) -> Change:
    """The change for an edit with ``key`` (d_in), whose value is still to be trained.

    Args:
        nearest: Place and distance of the entry nearest to the key; None: it is searched.
        keys_of: Keys (n, d_in) of prompts, asked where another answer comes to the prompt at the key of an entry that
            serves others, too.
    """
    mean = label_mean(prompt_tokens, label)

    def change(event: str, entry: int, radius: float, **more: object) -> Change:
        return Change(request.id, request.prompt, event, entry, radius, label, mean, **more)  # type: ignore[arg-type]

    if not len(codebook):
        return change("add", codebook.next, config.radius, key=key)
    place, distance = nearest or codebook.nearest(key[None])[0]
    radius, number = codebook.radii[place], codebook.numbers[place]
    sound = config.rules == SOUND
    same_key, prompts = distance <= SAME_KEY * float(key.norm()), set(codebook.items[place].edits.values())
    same_prompt = sound and (same_key or request.prompt in prompts)
    if distance > radius + config.radius and not same_prompt:
        return change("add", codebook.next, config.radius, key=key)
    if _same_answer(codebook, place, label, mean, config.rules):
        if distance <= radius:
            return change("reuse", number, radius)
        moved = (codebook.keys[place] + key) / 2 if config.expand == MOVING_AVERAGE else None
        return change("expand", number, distance * (1 + MARGIN) if sound else distance, key=moved)
    left = None
    if same_prompt and same_key:
        left = _key_left(key, sorted(prompts - {request.prompt}), keys_of)
        distance = float((left - key).norm()) if left is not None else distance
    if same_prompt and left is None and (same_key or prompts == {request.prompt}):
        return change("replace", number, radius, key=key if distance > radius else None)
    half = distance / 2
    shrunk, own = half - GAP, half
    if sound:
        shrunk, own = min(radius, shrunk), min(config.radius, own)
    return change("split", codebook.next, own, key=key, shrunk=(number, shrunk), left=left)


def _key_left(key: Tensor, prompts: list[str], keys_of: KeysOf | None) -> Tensor | None:
    """Of an entry's other prompts the nearest key (d_in) that is not ``key``, to which the entry moves."""
    if not prompts or keys_of is None:
        return None
    keys = keys_of(prompts).to(key)
    distances = (keys - key).norm(dim=1)
    distances[distances <= SAME_KEY * key.norm()] = float("inf")
    at = int(distances.argmin())
    return keys[at] if distances[at].isfinite() else None


def _same_answer(codebook: Codebook, place: int, label: tuple[int, ...], mean: float, rules: str) -> bool:
    if rules == SOUND:
        return codebook.items[place].label == label
    at = len(codebook) - 1 - place if rules == EASYEDIT else place
    return codebook.items[at].label_mean == mean

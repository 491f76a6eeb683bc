"""Spreading a batch of edits over several layers, as MEMIT does (Meng et al., ICLR 2023, section 4.3, algorithm 1).

Every layer in turn writes its share of what is still missing at the last one: R = (Z − H) / (layers left), with the
keys K and the hidden states H measured on the weights as they are by then, and ΔW = R · solve(K)ᵀ. What a method solves
is its own business: it hands in a function. Where a norm stands behind the MLPs, R is what
:mod:`editbench.locate_then_edit.multi_layer` makes of it, and what the last layer's norm cannot give is spread again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from editbench.checks import above_zero, at_least, one_of, rising
from editbench.ledger import LowRank, Transaction
from editbench.locate_then_edit.covariance import covariance_for
from editbench.locate_then_edit.keys import SubjectPass
from editbench.locate_then_edit.prompts import subject_row
from editbench.locate_then_edit.solver import SOLVE_DTYPES, SingularError
from editbench.locate_then_edit.templates import MEMIT_STARTS, templates_for
from editbench.locate_then_edit.values import ValueConfig
from editbench.records import NOT_FINITE, EditError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from editbench.locate_then_edit.solver import FullSolver, KeySolver, NeuronSubsetSolver
    from editbench.model.language_model import LanguageModel
    from editbench.records import EditRequest
    from editbench.resources import Resources


REACHED = 0.005
"""Share of ‖Z - H‖ that may stay out of the reach of the last layer's norm …"""

AGAIN = 8
"""… and how often, at most, it is spread again."""

VERSION = 2
"""Changes with what a batch writes into the layers."""


@dataclass
class MultiLayerConfig(ValueConfig):
    """Settings of methods that spread edits over layers. Defaults are MEMIT's for GPT-2 XL.

    Attributes:
        layers: Edited layers, from the first to the last; values are found at the last.
        covariance_weight: λ, the weight of C against the keys of the edits.
        template_starts: First words of the sampled context templates, one template each; "{}" always comes first.
        template_tokens: Tokens that are sampled after each start.
        covariance_tokens: Plain-text tokens over which C is taken; null for all texts given.
        ridge: Added to C's diagonal, as a fraction of its mean; 0 as published.
        solve_device: Device of the linear systems: "auto" for that of the edited weight, or "cpu", "cuda:1", …
        solve_dtype: "float64" or "float32".
    """

    layers: list[int] = field(default_factory=lambda: [13, 14, 15, 16, 17])
    clamp_norm_factor: float = 0.75
    covariance_weight: float = 20_000.0
    template_starts: list[str] = field(default_factory=lambda: list(MEMIT_STARTS))
    template_tokens: int = 10
    covariance_tokens: int | None = None
    ridge: float = 0.0
    solve_device: str = "auto"
    solve_dtype: str = "float64"

    def __post_init__(self) -> None:
        super().__post_init__()
        rising(layers=self.layers)
        above_zero(covariance_weight=self.covariance_weight)
        at_least(1, template_tokens=self.template_tokens, covariance_tokens=self.covariance_tokens)
        at_least(0, ridge=self.ridge)
        one_of(list(SOLVE_DTYPES), solve_dtype=self.solve_dtype)


def multi_layer_templates(lm: LanguageModel, settings: MultiLayerConfig, resources: Resources) -> list[str]:
    """Context templates given, or sampled from the (unedited) model."""
    plan = [(start, settings.template_tokens, 1) for start in settings.template_starts]
    return templates_for(lm, resources.templates, plan, resources.seed)


def key_solvers(
    lm: LanguageModel,
    settings: MultiLayerConfig,
    resources: Resources,
    kind: type[FullSolver] | type[NeuronSubsetSolver],
) -> dict[int, KeySolver]:
    """λC of every edited layer, on the (unedited) model, ready to solve with.

    Raises:
        ValueError: Covariance are missing, of the wrong shape, or not positive definite.
    """
    covariance = covariance_for(
        lm,
        settings.layers,
        resources.covariance,
        resources.texts,
        settings.covariance_tokens,
        resources.cache,
        resources.costs,
    )
    out: dict[int, KeySolver] = {}
    for layer in settings.layers:
        auto = settings.solve_device == "auto"
        device = lm.weight(lm.mlp_out_name(layer)).device if auto else torch.device(settings.solve_device)
        name, dtype = f"the covariance of layer {layer}", SOLVE_DTYPES[settings.solve_dtype]
        out[layer] = kind(covariance.pop(layer).to(device), settings.covariance_weight, settings.ridge, name, dtype)
    return out


@dataclass
class MultiLayerState:
    """A batch at one stage.

    Attributes:
        keys: K (d_ff, n).
        hidden: H (d, n).
        norm_inputs: By layer, where a norm stands behind the MLP, of this layer and of the last: (n, d) its inputs.
    """

    keys: Tensor
    hidden: Tensor
    norm_inputs: dict[int, Tensor] = field(default_factory=dict)


class EditKeys:
    """The rows of a batch of edits: the bare prompt and the other templates, measured layer by layer."""

    def __init__(
        self, lm: LanguageModel, requests: Sequence[EditRequest], templates: Sequence[str], layers: Sequence[int]
    ) -> None:
        """Tokenise the rows.

        Args:
            lm: The model.
            requests: The batch, each request with a subject.
            templates: Context templates; the first must be the bare one.
            layers: Edited layers, rising.
        """
        self.ids = [r.id for r in requests]
        self.layers, self.width = list(layers), len(templates) - 1
        self._normed = [layer for layer in layers if lm.post_norm(layer) is not None]
        self._bare = SubjectPass(lm, [subject_row(lm, r) for r in requests])
        rows = [subject_row(lm, r, t) for r in requests for t in templates[1:]]
        self._others = SubjectPass(lm, rows) if rows else None

    def hidden(self) -> Tensor:
        """H (d, n): what leaves the last edited layer, bare prompts."""
        seen = self._bare.measure(outputs=self.layers[-1:], keep=self.layers[0])
        return self._finite(_wide(seen.outputs[self.layers[-1]]).T, "hidden states", self.layers[-1])

    def at(self, layer: int) -> MultiLayerState:
        """Keys of ``layer`` and hidden states, on the current weights.

        Bare rows go on to the last edited layer for the hidden states, the others stop at ``layer``.

        Raises:
            EditError: Some are NaN or infinite; it names the edits.
        """
        last = self.layers[-1]
        normed = [at for at in self._normed if at in (layer, last)]
        bare = self._bare.measure(inputs=[layer], norm_inputs=normed, outputs=[last], keep=layer)
        others = self._others.measure(inputs=[layer], keep=layer).inputs if self._others is not None else {}
        keys = self._mix(bare.inputs[layer], others.get(layer))
        hidden = _wide(bare.outputs[last])
        behind = {at: _wide(x) for at, x in bare.norm_inputs.items()}
        return MultiLayerState(
            self._finite(keys.T, "keys", layer), self._finite(hidden.T, "hidden states", last), behind
        )

    def keys(self) -> dict[int, Tensor]:
        """Keys (d_ff, n) of all edited layers in one pass, on the current weights."""
        bare = self._bare.measure(inputs=self.layers).inputs
        others = self._others.measure(inputs=self.layers).inputs if self._others is not None else {}
        keys = {layer: self._mix(key, others.get(layer)) for layer, key in bare.items()}
        return {layer: self._finite(key.T, "keys", layer) for layer, key in keys.items()}

    def changed(self, layer: int) -> None:
        """The second projection of ``layer`` has changed."""
        for part in (self._bare, self._others):
            if part is not None:
                part.changed(layer)

    def narrow(self, index: Sequence[int]) -> EditKeys:
        """The same for some of the edits."""
        other = object.__new__(EditKeys)
        other.ids = [self.ids[i] for i in index]
        other.layers, other.width, other._normed = self.layers, self.width, self._normed
        other._bare, other._others = self._bare.narrow(index), None
        if self._others is not None:
            if not self._others.remembers(self.layers[0]):  # once, for all rounds to come
                self._others.measure(inputs=self.layers[:1], keep=self.layers[0])
            other._others = self._others.narrow([i * self.width + j for i in index for j in range(self.width)])
        return other

    def _mix(self, bare: Tensor, others: Tensor | None) -> Tensor:
        """The key (n, d_ff): half the bare prompt's (n, d_ff), half the mean of the others' (n · templates, d_ff)."""
        if others is None:
            return _wide(bare)
        return (_wide(bare) + _wide(others).reshape(len(bare), self.width, -1).mean(1)) / 2

    def _finite(self, columns: Tensor, what: str, layer: int) -> Tensor:
        bad = (~torch.isfinite(columns).all(0)).nonzero()[:, 0].tolist()
        if bad:
            raise EditError([self.ids[i] for i in bad], f"the {what} of layer {layer} are NaN or infinite", NOT_FINITE)
        return columns


def write_layers(
    subjects: EditKeys,
    targets: Tensor,
    solve: Callable[[int, Tensor], Tensor],
    lm: LanguageModel,
    transaction: Transaction,
) -> None:
    """Write a batch, layer by layer.

    Args:
        subjects: The edits.
        targets: Z (d, n).
        solve: From a layer and its keys K (d_ff, n) to the matrix (d_ff, n) that R is multiplied with.
        lm: The model.
        transaction: Takes the changes; they are in the model at once.

    Raises:
        EditError: Keys or hidden states are not finite, or a system cannot be solved.
    """
    first, last = subjects.layers[0], subjects.layers[-1]
    begun = _write_layers_once(subjects, targets, solve, lm, transaction)
    if lm.post_norm(last) is None or first == last:
        return
    bound = REACHED * begun.clamp(min=float(begun.max()) / 100)  # an edit that hardly moves waits for nobody
    for _ in range(AGAIN):
        seen = subjects.at(last)
        missed = out_of_reach(lm, last, targets, seen)
        rounding = seen.hidden.norm(dim=0) * torch.finfo(lm.model.dtype).eps
        if bool((missed.norm(dim=0) <= torch.maximum(bound, rounding)).all()):
            return
        subjects.changed(first)
        _write_layers_once(subjects, seen.hidden + missed, solve, lm, transaction)


def _write_layers_once(
    subjects: EditKeys,
    targets: Tensor,
    solve: Callable[[int, Tensor], Tensor],
    lm: LanguageModel,
    transaction: Transaction,
) -> Tensor:
    """Every layer in turn; returns ‖Z - H‖ (n) before."""
    begun: Tensor | None = None
    for done, layer in enumerate(subjects.layers):
        seen = subjects.at(layer)
        residual = share(lm, layer, subjects.layers[-1], len(subjects.layers) - done, targets, seen)  # (d, n)
        begun = (targets.to(seen.hidden) - seen.hidden).norm(dim=0) if begun is None else begun
        try:
            right = solve(layer, seen.keys)
        except SingularError as error:
            raise EditError(subjects.ids, f"layer {layer}: {error}") from error
        transaction.apply(LowRank(lm.mlp_out_name(layer), residual, right.to(residual)))
        subjects.changed(layer)
    assert begun is not None
    return begun


def _wide(tensor: Tensor) -> Tensor:
    """float32, or float64 if it is."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def share(lm: LanguageModel, layer: int, last: int, left: int, targets: Tensor, seen: MultiLayerState) -> Tensor:
    """R of one layer.

    Args:
        lm: The model.
        layer: The layer that writes.
        last: The last edited layer.
        left: Layers that still write, this one among them.
        targets: Z (d, n).
        seen: On the current weights.

    Returns:
        (d, n) by what the layer's second projection should change its output.
    """
    missing = targets.to(seen.hidden) - seen.hidden
    norm, here = lm.post_norm(last), lm.post_norm(layer)
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


def out_of_reach(lm: LanguageModel, last: int, targets: Tensor, seen: MultiLayerState) -> Tensor:
    """The part of Z - H (d, n) that the last layer's norm cannot give from where its input is now."""
    norm, missing = lm.post_norm(last), targets.to(seen.hidden) - seen.hidden
    if norm is None:
        return missing * 0
    x = seen.norm_inputs[last]
    return missing - (norm(norm.towards(x, norm(x) + missing.T)) - norm(x)).T

"""Writing a batch of edits into several layers, as MEMIT does (Meng et al., ICLR 2023, section 4.3, algorithm 1).

Every layer in turn writes its share of the residual that is left at the last one, R = (Z − H) / (layers left), with
keys K and hidden states H on the current weights, as ΔW = R · solve(K)ᵀ, where ``solve`` is the method's. Where a norm
follows the MLPs, R goes through it (:func:`residual_share`), and the part of Z − H that the last layer's norm cannot
give is written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.checks import above_zero, at_least, one_of, rising
from editbench.ledger import Dense, LowRank, Transaction
from editbench.locate_then_edit.covariance import covariance_for, matrix_device
from editbench.locate_then_edit.keys import SubjectPass
from editbench.locate_then_edit.prompts import subject_row
from editbench.locate_then_edit.solver import SOLVE_DTYPES, SOLVE_MATRICES, KeySolver, SingularError
from editbench.locate_then_edit.templates import MEMIT_STARTS, templates_for
from editbench.locate_then_edit.values import ValueConfig
from editbench.model.devices import float64_device, usable_device
from editbench.model.output_head import at_least_float32
from editbench.records import NOT_FINITE, EditError, EditRequest
from editbench.search_space import Layers, Range

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources

    Solve = Callable[[int, Tensor], Tensor]
    Transform = Callable[[Tensor, Tensor], Tensor]


MAX_MISSED = 0.005
"""Share of ‖Z - H‖ that the last layer's norm may fail to give."""

MAX_REWRITES = 8
"""Further passes over the layers, at most, that write the rest."""

VERSION = 2
"""Changes with what a batch writes into the layers."""


@dataclass
class LayersConfig(ValueConfig):
    """Settings of methods that write edits into several layers. Defaults are MEMIT's for GPT-2 XL.

    Attributes:
        layers: Edited layers, rising; values are found at the last.
        template_starts: First words of the sampled context templates, one template each; "{}" always comes first.
        template_tokens: Tokens that are sampled after each start.
        covariance_tokens: Plain-text tokens over which C is taken; null for all texts given.
        solve_device: Device of the linear systems: "auto" for that of the edited weight, or the CPU where the matrices
            have no room there; or "cpu", "cuda:1", …; the CPU for a device without float64.
        solve_dtype: Of the linear systems, "float64" or "float32".
    """

    layers: list[int] = field(default_factory=lambda: [13, 14, 15, 16, 17], metadata={"search": Layers(of=48)})
    clamp_norm_factor: float = field(default=0.75, metadata={"search": Range(0.5, 50.0, log=True)})
    template_starts: list[str] = field(default_factory=lambda: list(MEMIT_STARTS))
    template_tokens: int = 10
    covariance_tokens: int | None = None
    solve_device: str = "auto"
    solve_dtype: str = "float64"

    def __post_init__(self) -> None:
        super().__post_init__()
        rising(layers=self.layers)
        at_least(1, template_tokens=self.template_tokens, covariance_tokens=self.covariance_tokens)
        one_of(list(SOLVE_DTYPES), solve_dtype=self.solve_dtype)


@dataclass
class MultiLayerConfig(LayersConfig):
    """Settings of methods whose updates are held back by λC.

    The other fields are those of :class:`LayersConfig`.

    Attributes:
        covariance_weight: λ, the weight of C against the keys of the edits.
        ridge: Added to C's diagonal, as a fraction of its mean; 0 as published.
    """

    covariance_weight: float = field(default=20_000.0, metadata={"search": Range(10.0, 100_000.0, log=True)})
    ridge: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(covariance_weight=self.covariance_weight)
        at_least(0, ridge=self.ridge)


def multi_layer_templates(lm: LanguageModel, settings: LayersConfig, resources: Resources) -> list[str]:
    """The user's context templates, or those that the (unedited) model samples."""
    plan = [(start, settings.template_tokens, 1) for start in settings.template_starts]
    return templates_for(lm, resources.templates, plan, resources.seed)


def covariances(lm: LanguageModel, settings: LayersConfig, resources: Resources) -> Iterator[tuple[int, Tensor]]:
    """Each edited layer and its C (d_ff, d_ff) of the (unedited) model, float64, where its systems are solved."""
    covariance = covariance_for(lm, settings.layers, resources, settings.covariance_tokens)
    for layer in settings.layers:
        auto = settings.solve_device == "auto"
        device = matrix_device(lm, layer, SOLVE_MATRICES) if auto else usable_device(settings.solve_device)
        yield layer, covariance.pop(layer).to(float64_device(device))


def key_solvers(
    lm: LanguageModel,
    settings: MultiLayerConfig,
    resources: Resources,
    kind: Callable[[Tensor, float, float, str, torch.dtype], KeySolver],
) -> dict[int, KeySolver]:
    """Solvers with λC of every edited layer, on the (unedited) model; ``kind`` makes one as :class:`FullSolver`."""
    weight, ridge, dtype = settings.covariance_weight, settings.ridge, SOLVE_DTYPES[settings.solve_dtype]
    return {
        layer: kind(covariance, weight, ridge, f"the covariance of layer {layer}", dtype)
        for layer, covariance in covariances(lm, settings, resources)
    }


@dataclass
class MultiLayerState:
    """Keys K (d_ff, n) and hidden states H (d, n) of a batch on the current weights.

    ``norm_inputs`` are the inputs (n, d) of the norms behind the MLPs, of this layer and of the last.
    """

    keys: Tensor
    hidden: Tensor
    norm_inputs: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class EditKeys:
    """The rows of a batch of edits, measured layer by layer."""

    ids: list[str]
    layers: list[int]  # edited, rising
    width: int  # templates besides the bare prompt
    bare: SubjectPass
    others: SubjectPass | None  # prompts within the other templates, edit by edit

    @classmethod
    def of(
        cls, lm: LanguageModel, requests: Sequence[EditRequest], templates: Sequence[str], layers: Sequence[int]
    ) -> EditKeys:
        """Tokenise the rows of requests with a subject; the first template must be the bare one."""
        rows = [subject_row(lm, r, t) for r in requests for t in templates[1:]]
        return cls(
            ids=[r.id for r in requests],
            layers=list(layers),
            width=len(templates) - 1,
            bare=SubjectPass.of(lm, [subject_row(lm, r) for r in requests]),
            others=SubjectPass.of(lm, rows) if rows else None,
        )

    def hidden(self) -> Tensor:
        """H (d, n): the last edited layer's output for the bare prompts."""
        last = self.layers[-1]
        outputs = self.bare.measure(outputs=[last], keep=self.layers[0]).outputs
        return self._finite(at_least_float32(outputs[last]).T, "hidden states", last)

    def mlp(self) -> Tensor:
        """M (d, n): the output of the last edited layer's second projection for the bare prompts."""
        last = self.layers[-1]
        outputs = self.bare.measure(mlp=[last], keep=self.layers[0]).mlp
        return self._finite(at_least_float32(outputs[last]).T, "outputs of the MLP", last)

    def at(self, layer: int) -> MultiLayerState:
        """Keys of ``layer`` and hidden states; an :class:`EditError` names the edits whose numbers are not finite.

        Bare rows run to the last edited layer for the hidden states, the others to ``layer``.
        """
        last, lm = self.layers[-1], self.bare.lm
        normed = [at for at in sorted({layer, last}) if lm.post_norm(at) is not None]
        bare = self.bare.measure(inputs=[layer], norm_inputs=normed, outputs=[last], keep=layer)
        others = self.others.measure(inputs=[layer], keep=layer).inputs if self.others is not None else {}
        keys = self._keys(layer, bare.inputs, others)
        hidden = self._finite(at_least_float32(bare.outputs[last]).T, "hidden states", last)
        return MultiLayerState(keys, hidden, {at: at_least_float32(x) for at, x in bare.norm_inputs.items()})

    def keys(self) -> dict[int, Tensor]:
        """Keys (d_ff, n) of all edited layers in one pass."""
        bare = self.bare.measure(inputs=self.layers).inputs
        others = self.others.measure(inputs=self.layers).inputs if self.others is not None else {}
        return {layer: self._keys(layer, bare, others) for layer in bare}

    def changed(self, layer: int) -> None:
        """Forget what depended on the second projection of ``layer``, which has changed."""
        for part in (self.bare, self.others):
            if part is not None:
                part.changed(layer)

    def select(self, index: Sequence[int]) -> EditKeys:
        """This for some of the edits."""
        others = self.others
        if others is not None:
            if not others.remembers(self.layers[0]):  # once for all later rounds
                others.measure(inputs=self.layers[:1], keep=self.layers[0])
            others = others.select([i * self.width + j for i in index for j in range(self.width)])
        return replace(self, ids=[self.ids[i] for i in index], bare=self.bare.select(index), others=others)

    def _keys(self, layer: int, bare: dict[int, Tensor], others: dict[int, Tensor]) -> Tensor:
        """K (d_ff, n): half the bare prompt's key (n, d_ff), half the mean of the others' (n · templates, d_ff)."""
        keys = at_least_float32(bare[layer])
        if layer in others:
            keys = (keys + at_least_float32(others[layer]).reshape(len(keys), self.width, -1).mean(1)) / 2
        return self._finite(keys.T, "keys", layer)

    def _finite(self, columns: Tensor, what: str, layer: int) -> Tensor:
        bad = (~torch.isfinite(columns).all(0)).nonzero()[:, 0].tolist()
        if bad:
            raise EditError([self.ids[i] for i in bad], f"the {what} of layer {layer} are NaN or infinite", NOT_FINITE)
        return columns


def write_layers(
    edits: EditKeys,
    targets: Tensor,
    solve: Solve,
    lm: LanguageModel,
    transaction: Transaction,
    transform: Transform | None = None,
) -> None:
    """Write a batch, layer by layer.

    Numbers that are not finite, and systems that cannot be solved, raise an :class:`EditError`.

    Args:
        targets: Z (d, n).
        solve: From a layer and its keys K (d_ff, n) to the matrix (d_ff, n) that R is multiplied with.
        transform: From a layer's weight (out, in) and its ΔW (out, in), float32 or float64, to the ΔW that is written
            (RECT, PRUNE) and recorded as :class:`~editbench.ledger.Dense`; None writes R · solve(K)ᵀ, recorded as its
            factors.
    """
    first, last = edits.layers[0], edits.layers[-1]

    def write_once(targets: Tensor) -> Tensor:
        """Write every layer in turn; ‖Z - H‖ (n) before."""
        distances: list[Tensor] = []
        for done, layer in enumerate(edits.layers):
            state, name = edits.at(layer), lm.mlp_out_name(layer)
            residual = residual_share(lm, layer, last, len(edits.layers) - done, targets, state)  # (d, n)
            distances.append((targets.to(state.hidden) - state.hidden).norm(dim=0))
            right = solved(edits, layer, state.keys, solve).to(residual)
            if transform is None:
                transaction.apply(LowRank(name, residual, right))
            else:
                weight = lm.weight(name)
                update = (residual @ right.T).to(weight.device)
                transaction.apply(Dense(name, transform(weight.to(update.dtype, copy=True), update)))
            edits.changed(layer)
        return distances[0]

    begun = write_once(targets)
    if lm.post_norm(last) is None or first == last:
        return
    bound = MAX_MISSED * begun.clamp(min=float(begun.max()) / 100)  # an edit that hardly moves need not be as exact
    for _ in range(MAX_REWRITES):
        state = edits.at(last)
        missed = out_of_reach(lm, last, targets, state)
        rounding = state.hidden.norm(dim=0) * torch.finfo(lm.model.dtype).eps
        if bool((missed.norm(dim=0) <= torch.maximum(bound, rounding)).all()):
            return
        edits.changed(first)
        write_once(state.hidden + missed)


def solved(edits: EditKeys, layer: int, keys: Tensor, solve: Solve) -> Tensor:
    """``solve(layer, keys)``; an :class:`EditError` if the system cannot be solved."""
    try:
        return solve(layer, keys)
    except SingularError as error:
        raise EditError(edits.ids, f"layer {layer}: {error}") from error


def residual_share(
    lm: LanguageModel, layer: int, last: int, left: int, targets: Tensor, state: MultiLayerState
) -> Tensor:
    """R of ``layer`` (d, n): the change that its second projection should make to its output.

    Args:
        last: The last edited layer.
        left: Layers that still write, this one included.
        targets: Z (d, n).
        state: On the current weights.
    """
    missing = targets.to(state.hidden) - state.hidden
    norm, here = lm.post_norm(last), lm.post_norm(layer)
    if norm is None or left == 1:
        move = missing / left
    else:
        x = state.norm_inputs[last]
        goal = norm(x) + missing.T
        move = (goal - norm(x + (1 - 1 / left) * (norm.towards(x, goal) - x))).T
    if here is None:
        return move
    x = state.norm_inputs[layer]
    return (here.towards(x, here(x) + move.T.to(x)) - x).T


def out_of_reach(lm: LanguageModel, last: int, targets: Tensor, state: MultiLayerState) -> Tensor:
    """The part of Z - H (d, n) that the last layer's norm cannot give from its current input."""
    norm, missing = lm.post_norm(last), targets.to(state.hidden) - state.hidden
    assert norm is not None
    x = state.norm_inputs[last]
    return missing - (norm(norm.towards(x, norm(x) + missing.T)) - norm(x)).T

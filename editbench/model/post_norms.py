"""Post norms: norms and factors between an MLP's output and its layer's, found by a probe at load, and their inverse.

In most architectures a change of the second projection's output o is the same change of the layer's output h. Gemma 2
and 3 normalise o first, h = r + N(o), and OPT with ``do_layer_norm_before=false`` normalises the sum, h = N(r + o).
Both are h = base + N(x), where x changes with o, and h can only move within N's image: :meth:`PostNorm.towards`.
Granite multiplies o, h = r + c·o: :class:`PostScale`.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from editbench.model.architectures import ArchitectureError, module_at
from editbench.model.devices import float64_device, in_float64, moved_to
from editbench.model.hooks import hooked
from editbench.model.offload import stored_tensors, unhooked
from editbench.model.output_head import at_least_float32

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel


TOLERANCE = 0.05
"""Share of its length by which a change may differ from the probe's vector, beside rounding."""

SMALLEST_FACTOR = 1e-3
"""A smaller factor of the MLP's output cannot be told from none."""

HALVINGS = 100


@dataclass(frozen=True)
class PostNorm:
    """A LayerNorm or RMSNorm behind an MLP: N(x) = scale · (x - mean) / deviation + shift, without mean in RMSNorm."""

    path: str  # inside its layer
    module: nn.Module
    dtype: torch.dtype  # of its computation
    inputs: ClassVar[bool] = True  # x is the module's input

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """N(x) (n, d) by the model's own module, computed in float32 or wider; as ``x`` in dtype and device."""
        own = {name: at_least_float32(tensor) for name, tensor in stored_tensors(self.module)}
        place = next((tensor.device for tensor in own.values()), x.device)
        given = x.to(torch.promote_types(self.dtype, torch.float32)).to(place)
        out: Tensor = torch.func.functional_call(unhooked(self.module), own, given)
        return moved_to(out, x)

    def towards(self, x: Tensor, y: Tensor) -> Tensor:
        """The input (n, d) whose output is the nearest to ``y`` that the norm can give; in the dtype of ``x``.

        N maps every input onto an ellipsoid. With u = (x - mean) / ‖x - mean‖ and a = scale · ‖N's output
        without scale and shift‖, N(x) = a·u + shift, and the nearest point is u_i = (a_i t_i - κ) / (a_i² + ν), where
        t = y - shift, ν makes u of length one and κ of mean zero (LayerNorm). ν is found by halving. Mean and deviation
        of the current inputs ``x`` (n, d) stay; ``y`` (n, d) are the wanted outputs.
        """
        scale, shift, centred = self._affine(x)
        t, now, entering = in_float64(y) - shift, in_float64(self(x)) - shift, in_float64(x)
        mean = entering.mean(-1, keepdim=True) * centred
        u = entering - mean
        length = u.norm(dim=-1, keepdim=True)
        along = scale * u / length
        a = scale * ((now * along).sum(-1, keepdim=True) / along.square().sum(-1, keepdim=True))  # (n, d)

        def nearest(nu: Tensor) -> Tensor:
            weight = 1 / (a.square() + nu)
            kappa = (weight * a * t).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
            out: Tensor = weight * (a * t - kappa * centred)
            return out

        low, high = -a.square().amin(-1, keepdim=True), (a * t).norm(dim=-1, keepdim=True)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            long = nearest(middle).norm(dim=-1, keepdim=True) > 1
            low, high = torch.where(long, middle, low), torch.where(long, high, middle)
        found = nearest(high)
        nearby: Tensor = mean + found / found.norm(dim=-1, keepdim=True) * length
        return nearby.to(x)

    def is_norm(self, x: Tensor) -> bool:
        """Whether the module maps ``x`` (n, d) by this class's formula."""
        scale, shift, centred = self._affine(x)
        wide = in_float64(x)
        wide = wide - wide.mean(-1, keepdim=True) * centred
        wanted = scale * wide / _size(wide) + shift
        return bool((in_float64(self(x)) - wanted).norm() < TOLERANCE * wanted.norm())

    def _affine(self, like: Tensor) -> tuple[Tensor, Tensor, int]:
        """Scale (d), shift (d), float64, and 1 if the mean is subtracted: from the outputs for ±1, 0 and 1."""
        signs = torch.ones(like.shape[-1], dtype=torch.float64, device=float64_device(like.device))
        signs[1::2] = -1
        given = torch.stack([signs, torch.zeros_like(signs), torch.ones_like(signs)])
        mixed, shift, same = self(given)
        centred = int((same - shift).norm() < 0.5 * (mixed - shift).norm())
        wide = signs - signs.mean() * centred
        return (mixed - shift) * _size(wide) / wide, shift, centred


@dataclass(frozen=True)
class PostScale:
    """A factor on the MLP's output: N(x) = factor · x."""

    path: str  # of the second projection, inside its layer
    module: nn.Module
    factor: float
    inputs: ClassVar[bool] = False  # x is the module's output

    def __call__(self, x: Tensor) -> Tensor:
        """N(x) (n, d)."""
        return self.factor * x

    def towards(self, x: Tensor, y: Tensor) -> Tensor:
        """The input (n, d) whose output is ``y``."""
        return (y / self.factor).to(x)


Behind = PostNorm | PostScale


@torch.no_grad()
def find_post_norms(lm: LanguageModel) -> list[Behind | None]:
    """For every layer the norm or factor behind its MLP, or None where the layer adds the MLP's output unchanged.

    One forward pass of two tokens. In a row for each layer, a vector is added at the layer's second projection, and the
    layer's output is compared with the row where nothing is added. A layer that fits neither is refused by name.
    """
    vocabulary, mlp_out = int(lm.config.vocab_size), lm.architecture.mlp_out
    if not mlp_out:
        return [None] * lm.n_layers
    ids = torch.tensor([[vocabulary // 2, vocabulary // 3]] * (lm.n_layers + 1), device=lm.device)
    probes = [_Probe(layer, mlp_out, row, len(ids)) for row, layer in enumerate(lm.layers, start=1)]
    with ExitStack() as stack:
        for probe in probes:
            probe.attach(stack)
        lm.hidden(ids, torch.ones_like(ids), torch.ones_like(ids).cumsum(1) - 1)
    found: list[Behind | None] = []
    for index, probe in enumerate(probes):
        norm, off = probe.outcome()
        if norm is None and off is not None:
            raise ArchitectureError(
                f"{type(lm.model).__name__}: layer {index} ({type(probe.layer).__name__}) does not add the output of "
                f"{mlp_out} to its own, neither unchanged nor through one norm or factor: a vector added there is off "
                f"by {off:.0%} of its length behind the layer, so that edits would miss their values. If "
                f"{mlp_out} is not the MLP's last projection, set model.architecture.mlp_out; layers that change their "
                "MLP's output in another way are not supported"
            )
        found.append(norm)
    return found


class _Move(NamedTuple):
    """A tensor (d) at the last token without the vector, and its change (d) by the vector, float64."""

    base: Tensor
    change: Tensor

    def off(self, other: _Move) -> float:
        """Share of the other's length by which the changes differ."""
        return float((self.change - other.change.to(self.change)).norm() / other.change.norm())

    def follows(self, other: _Move, dtype: torch.dtype) -> bool:
        rounding = 2 * torch.finfo(dtype).eps * float(self.base.norm() / other.change.norm())
        return self.off(other) <= TOLERANCE + rounding


class _Probe:
    """Adds a vector behind one layer's second projection in one row of the batch, and follows it through the layer."""

    size: float  # of the layer's input
    dtype: torch.dtype
    added: _Move
    leaving: _Move

    def __init__(self, layer: nn.Module, mlp_out: str, row: int, rows: int) -> None:
        self.layer, self.mlp_out, self.row, self.rows = layer, mlp_out, row, rows
        self.behind: list[tuple[str, nn.Module, _Move, _Move]] = []  # path, module, its input, its output

    def attach(self, stack: ExitStack) -> None:
        stack.enter_context(hooked(self.layer, self._enter, inputs=True))
        stack.enter_context(hooked(module_at(self.layer, self.mlp_out), self._add))
        stack.enter_context(hooked(self.layer, self._leave))
        for path, module in self.layer.named_modules():
            if path and not f"{self.mlp_out}.".startswith(f"{path}."):  # neither the projection nor what holds it
                stack.callback(module.register_forward_hook(partial(self._pass, path)).remove)

    def outcome(self) -> tuple[Behind | None, float | None]:
        """(what is in between, the share by which the output is off if it is neither that nor a plain sum)."""
        if self.leaving.follows(self.added, self.dtype):
            return None, None
        for path, module, entering, leaving in self.behind:
            if entering.follows(self.added, self.dtype) and self.leaving.follows(leaving, self.dtype):
                norm = PostNorm(path, module, self.dtype)
                if norm.is_norm(entering.change[None]):
                    return norm, None
        scaled = _Move(self.added.base, self._factor() * self.added.change)
        if abs(self._factor()) > SMALLEST_FACTOR and self.leaving.follows(scaled, self.dtype):
            return PostScale(self.mlp_out, module_at(self.layer, self.mlp_out), self._factor()), None
        return None, self.leaving.off(self.added)

    def _factor(self) -> float:
        """C of the nearest c · added to what leaves the layer."""
        added = self.added.change
        return float(self.leaving.change.to(added) @ added / added.square().sum())

    def _enter(self, tensor: Tensor) -> None:
        self.size = float(_size(in_float64(tensor[0, -1])))

    def _add(self, out: Tensor) -> Tensor:
        self.dtype = out.dtype
        whole = out.clone().reshape(self.rows, -1, out.shape[-1])
        size = self.size + float(_size(in_float64(whole[0, -1])))  # a small vector would drown in rounding
        numbers = torch.randn(out.shape[-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        whole[self.row, -1] += (numbers * (size or 1.0)).to(whole)
        self.added = self._move(whole)
        return whole.reshape(out.shape)

    def _pass(self, path: str, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if hasattr(self, "added") and args and self._fits(args[0]) and self._fits(out):
            self.behind.append((path, module, self._move(args[0]), self._move(out)))

    def _leave(self, tensor: Tensor) -> None:
        self.leaving = self._move(tensor)

    def _fits(self, tensor: Any) -> bool:
        width = len(self.added.base)
        fits = isinstance(tensor, torch.Tensor) and tensor.shape[-1:] == (width,)
        return fits and tensor.numel() % (self.rows * width) == 0

    def _move(self, tensor: Tensor) -> _Move:
        rows = in_float64(tensor.detach().reshape(self.rows, -1, tensor.shape[-1])[:, -1])
        return _Move(rows[0], rows[self.row] - rows[0])


def _size(tensor: Tensor) -> Tensor:
    """Root mean square over the last dimension, kept."""
    return tensor.square().mean(-1, keepdim=True).sqrt()

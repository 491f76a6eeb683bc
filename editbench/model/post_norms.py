"""Post norms: norms between an MLP's output and its layer's, found by a probe at load, and the way back through them.

In most architectures a change of the second projection's output o is the same change of the layer's output h. Gemma 2
and 3 normalise o first, h = r + N(o), and OPT with ``do_layer_norm_before=false`` normalises the sum, h = N(r + o).
Both are h = base + N(x), where x moves with o, and h can only be moved into N's image: :meth:`PostNorm.towards`.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from editbench.model.architectures import ArchitectureError, config_of, module_at

if TYPE_CHECKING:
    from torch import Tensor, nn

    from editbench.model.architectures import Architecture


TOLERANCE = 0.05
"""Share of its length by which a move may differ from the probe's vector, beside rounding."""

HALVINGS = 100


@dataclass(frozen=True)
class PostNorm:
    """A LayerNorm or RMSNorm behind an MLP: N(x) = scale · (x - mean) / deviation + shift, without mean in RMSNorm.

    Attributes:
        path: Path inside its layer.
        module: The norm.
        dtype: Dtype of its computation.
    """

    path: str
    module: nn.Module
    dtype: torch.dtype

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """N(x) (n, d), by the model's own module; in the dtype of ``x``."""
        out: Tensor = self.module(x.to(self.dtype))
        return out.to(x)

    def towards(self, x: Tensor, y: Tensor) -> Tensor:
        """The input (n, d) whose output is the nearest to ``y`` that the norm can give; in the dtype of ``x``.

        N maps onto an ellipsoid, whatever its input. With u = (x - mean) / ‖x - mean‖ and a = scale · ‖N's output
        without scale and shift‖, N(x) = a·u + shift, and the nearest point is u_i = (a_i t_i - κ) / (a_i² + ν), where
        t = y - shift, ν makes u of length one and κ of mean zero (LayerNorm). ν is found by halving.

        Args:
            x: (n, d) inputs now; mean and deviation stay theirs.
            y: (n, d) outputs that are wanted.
        """
        scale, shift, centred = self._affine(x)
        t, now = y.to(scale) - shift, self(x).to(scale) - shift
        mean = x.to(scale).mean(-1, keepdim=True) * centred
        u = x.to(scale) - mean
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
        """Whether the module maps ``x`` (n, d) as this class says."""
        scale, shift, centred = self._affine(x)
        wide = x.to(scale)
        wide = wide - wide.mean(-1, keepdim=True) * centred
        wanted = scale * wide / _size(wide) + shift
        return bool((self(x).to(scale) - wanted).norm() < TOLERANCE * wanted.norm())

    def _affine(self, like: Tensor) -> tuple[Tensor, Tensor, int]:
        """Scale (d), shift (d), float64, and 1 if the mean is subtracted: read off its outputs for ±1, 0 and 1."""
        signs = torch.ones(like.shape[-1], dtype=torch.float64, device=like.device)
        signs[1::2] = -1
        given = torch.stack([signs, torch.zeros_like(signs), torch.ones_like(signs)])
        mixed, shift, same = self(given)
        centred = int((same - shift).norm() < 0.5 * (mixed - shift).norm())
        wide = signs - signs.mean() * centred
        return (mixed - shift) * _size(wide) / wide, shift, centred


@torch.no_grad()
def find_post_norms(model: nn.Module, architecture: Architecture, device: torch.device) -> list[PostNorm | None]:
    """For every layer the norm behind its MLP, or None where the layer adds the MLP's output unchanged.

    One forward pass of two tokens. In a row for each layer, a vector is added at the layer's second projection, and the
    layer's output is compared with the row where nothing is added. A layer that fits neither is refused by name.
    """
    layers = list(module_at(model, architecture.layers).children())
    vocabulary = int(config_of(model, "vocab_size"))
    ids = torch.tensor([[vocabulary // 2, vocabulary // 3]] * (len(layers) + 1), device=device)
    probes = [_Probe(layer, architecture.mlp_out, row) for row, layer in enumerate(layers, start=1)]
    with ExitStack() as stack:
        for probe in probes:
            probe.attach(stack, len(ids))
        module_at(model, architecture.decoder)(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    found: list[PostNorm | None] = []
    for index, probe in enumerate(probes):
        norm, off = probe.outcome()
        if norm is None and off is not None:
            raise ArchitectureError(
                f"{type(model).__name__}: layer {index} ({type(probe.layer).__name__}) does not add the output of "
                f"{architecture.mlp_out} to what it hands on, neither as it is nor through one norm: a vector added "
                f"there is off by {off:.0%} of its length behind the layer, so that edits would miss their values. If "
                f"{architecture.mlp_out} is not the MLP's last projection, set model.architecture.mlp_out; layers that "
                "scale or change their MLP's output in another way are not supported"
            )
        found.append(norm)
    return found


@dataclass
class _Pair:
    """A tensor at the last token, with and without the vector: ``base`` (d) and ``moved`` by (d), float64."""

    base: Tensor
    moved: Tensor

    def follows(self, other: _Pair, eps: float) -> bool:
        rounding = 2 * eps * float(self.base.norm())
        return self.off(other) * float(other.moved.norm()) <= TOLERANCE * float(other.moved.norm()) + rounding

    def off(self, other: _Pair) -> float:
        return float((self.moved - other.moved.to(self.moved)).norm() / other.moved.norm())


@dataclass
class _Probe:
    """Adds a vector behind one layer's second projection in one row, and follows it through the layer."""

    layer: nn.Module
    mlp_out: str
    row: int
    rows: int = 0
    size: float = 0.0
    dtype: torch.dtype = torch.float32
    added: _Pair | None = None
    leaving: _Pair | None = None
    behind: list[tuple[str, nn.Module, _Pair, _Pair]] = field(default_factory=list)

    def attach(self, stack: ExitStack, rows: int) -> None:
        self.rows = rows
        projection = module_at(self.layer, self.mlp_out)
        hooks = [
            self.layer.register_forward_pre_hook(self._enter),
            projection.register_forward_hook(self._add),
            self.layer.register_forward_hook(self._leave),
        ]
        for path, module in self.layer.named_modules():
            if path and not f"{self.mlp_out}.".startswith(f"{path}."):  # neither the projection nor what holds it
                hooks.append(module.register_forward_hook(lambda m, a, out, path=path: self._pass(path, m, a, out)))
        for hook in hooks:
            stack.callback(hook.remove)

    def outcome(self) -> tuple[PostNorm | None, float | None]:
        """(the norm in between, the share by which the output is off if there is neither a norm nor a plain sum)."""
        assert self.added is not None and self.leaving is not None
        eps = torch.finfo(self.dtype).eps
        if self.leaving.follows(self.added, eps):
            return None, None
        for path, module, entering, leaving in self.behind:
            if entering.follows(self.added, eps) and self.leaving.follows(leaving, eps):
                norm = PostNorm(path, module, self.dtype)
                if norm.is_norm(entering.moved[None]):
                    return norm, None
        return None, self.leaving.off(self.added)

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.size = float(_size(args[0][0, -1].double()))

    def _add(self, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
        self.dtype = out.dtype
        whole = out.clone().reshape(self.rows, -1, out.shape[-1])
        size = self.size + float(_size(whole[0, -1].double()))  # a small vector would drown in rounding
        numbers = torch.randn(out.shape[-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        whole[self.row, -1] += (numbers * (size or 1.0)).to(whole)
        self.added = self._pair(whole)
        return whole.reshape(out.shape)

    def _pass(self, path: str, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if self.added is None or not args or not all(self._fits(t) for t in (args[0], out)):
            return
        self.behind.append((path, module, self._pair(args[0]), self._pair(out)))

    def _leave(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        self.leaving = self._pair(out[0] if isinstance(out, tuple) else out)

    def _fits(self, tensor: Any) -> bool:
        assert self.added is not None
        width = len(self.added.base)
        return (
            isinstance(tensor, torch.Tensor)
            and tensor.shape[-1:] == (width,)
            and tensor.numel() % (self.rows * width) == 0
        )

    def _pair(self, tensor: Tensor) -> _Pair:
        rows = tensor.detach().reshape(self.rows, -1, tensor.shape[-1])[:, -1].double()
        return _Pair(rows[0], rows[self.row] - rows[0])


def _size(tensor: Tensor) -> Tensor:
    """Root mean square over the last dimension, kept."""
    return tensor.square().mean(-1, keepdim=True).sqrt()

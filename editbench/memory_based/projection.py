"""The linear projection of one layer's MLP at which a method keeps its edits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.model.architectures import module_at, projection_sizes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from editbench.model.language_model import LanguageModel

FIRST, SECOND = "first", "second"
PROJECTIONS = (FIRST, SECOND)


@dataclass(frozen=True)
class Projection:
    """A projection f(x) = x Wᵀ + b of ``layer``, with x (…, d_in) and f(x) (…, d_out); ``weight`` is W's name."""

    layer: int
    module: nn.Module
    weight: str
    d_in: int
    d_out: int

    def outputs(self, x: Tensor) -> Tensor:
        """f(x) (…, d_out), whatever hooks the module has."""
        found: Tensor = self.module.forward(x)
        return found

    @classmethod
    def of(cls, lm: LanguageModel, layer: int, which: str) -> Projection:
        """The "first" or the "second" projection of a layer's MLP.

        A ValueError for the first one where there are two, gate and up: published code edits the second one there.
        """
        path = lm.architecture.mlp_out
        if which == FIRST:
            if len(lm.architecture.mlp_in) > 1:
                raise ValueError(
                    f"the MLPs of {lm.name} have several first projections ({', '.join(lm.architecture.mlp_in)}); "
                    "set projection=second"
                )
            path = lm.architecture.mlp_in[0]
        name = lm.mlp_out_name(layer).removesuffix(f"{lm.architecture.mlp_out}.weight") + f"{path}.weight"
        module = module_at(lm.layers[layer], path)
        return cls(layer, module, name, *projection_sizes(module, path))

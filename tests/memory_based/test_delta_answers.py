"""Another D for each row, by grouped products, against one row at a time."""

import pytest
import torch

from editbench.memory_based.compression import dense, low_rank, quantised, sparse
from editbench.memory_based.delta_answers import DeltaAnswers
from editbench.memory_based.routing import Pass

D_OUT, D_IN, T = 5, 7, 4


def deltas():
    draw = torch.Generator().manual_seed(0)
    a, b, c, d, e = (torch.randn(D_OUT, D_IN, generator=draw, dtype=torch.float64) for _ in range(5))
    x = torch.randn(2, D_IN, generator=draw, dtype=torch.float64)
    return {
        "dense": dense(a, torch.float64),
        "sparse": sparse(b * (b > 0)),
        "rank": low_rank(c, x, 0.0),
        "rank one": low_rank(d, x[:1], 0.0),
        "quantised": quantised(e, 4),
    }


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize(
    "of", [["dense", None, "rank", "dense"], ["rank", "rank one", "sparse", "quantised"], [None, None, None, "rank"]]
)
def test_rows(of, copies):
    every = deltas()
    x = torch.randn(len(of) * copies, T, D_IN, dtype=torch.float64)
    output = torch.randn(len(of) * copies, T, D_OUT, dtype=torch.float64)
    answers = DeltaAnswers(of, [{}, every])
    for _ in range(2):
        found = answers.apply(x, output, Pass((0,) * len(of), copies=copies, place=1))
        for row in range(len(x)):
            name = of[row // copies]
            if name is None:
                assert torch.equal(found[row], output[row])
            else:
                wanted = output[row] + x[row] @ every[name].delta(torch.float64).T
                assert torch.allclose(found[row], wanted, rtol=1e-6)
    assert answers.any

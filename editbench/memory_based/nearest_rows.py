"""The nearest row of a matrix to each of some queries: by differences, but of few rows where there are many."""

from __future__ import annotations

import torch
from torch import Tensor

FEW_ROWS = 512  # of so many at most all differences are taken
NUMBERS_AT_ONCE = 1 << 22  # of the matrix of queries by rows
ALLOWED = 4  # roundings beside those of a product


def nearest_rows(queries: Tensor, rows: Tensor) -> list[tuple[int, float]]:
    """Place and Euclidean distance of the nearest of ``rows`` (N, d), at least one, to each of ``queries`` (B, d).

    As the least of all differences' norms, which are exact near zero, and of equal ones the first. Of many rows a
    product says first which can be the nearest whatever its rounding was, and only their differences are taken.
    """
    queries = queries.to(rows)
    if len(rows) <= FEW_ROWS or torch.get_float32_matmul_precision() != "highest":
        return _least(queries, rows)
    norms = torch.linalg.vector_norm(rows, dim=1)
    found: list[tuple[int, float]] = []
    for some in torch.split(queries, max(1, NUMBERS_AT_ONCE // len(rows))):
        for query, possible in zip(some, _possible(some, rows, norms), strict=True):
            places = possible.nonzero()[:, 0]
            if len(places) == 0:  # numbers that are not finite
                found += _least(query[None], rows)
                continue
            ((at, distance),) = _least(query[None], rows[places])
            found.append((int(places[at]), distance))
    return found


def _possible(queries: Tensor, rows: Tensor, norms: Tensor) -> Tensor:
    """(B, N) whether a row may be the nearest one, by half of its squared distance without the query's own square.

    A product of d numbers is off by d roundings of its factors' norms at most.
    """
    share = (rows.shape[1] + ALLOWED) * torch.finfo(rows.dtype).eps
    squares = norms.square() / 2
    half = squares - queries @ rows.T
    off = share * (torch.linalg.vector_norm(queries, dim=1)[:, None] * norms + squares)
    possible: Tensor = half - off <= (half + off).amin(dim=1, keepdim=True)
    return possible


def _least(queries: Tensor, rows: Tensor) -> list[tuple[int, float]]:
    distances = torch.cdist(queries, rows, compute_mode="donot_use_mm_for_euclid_dist")
    least, place = distances.min(dim=1)
    return list(zip(place.tolist(), least.tolist(), strict=True))

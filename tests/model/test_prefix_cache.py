"""Prefix cache: where the keys and values of rows' prefixes stand."""

import torch

from editbench.model.prefix_cache import PrefixCache


def test_prefixes_stand_as_far_right_as_they_can():
    numbers = torch.arange(4.0)[:, None, None]  # one head of size one for each token
    cache = PrefixCache.at({1: (numbers, 10 * numbers)}, [[0, 1, 3], [2], []], n_layers=2)
    assert cache.length == 3 and cache.layers[0].keys is None
    assert cache.layers[1].keys[:, 0, :, 0].tolist() == [[0, 1, 3], [0, 0, 2], [0, 0, 0]]
    assert cache.layers[1].values[1, 0, 2, 0] == 20
    assert cache.above(2).layers[1].keys is None
    assert cache.select(torch.tensor([1])).layers[1].keys[:, 0, :, 0].tolist() == [[0, 0, 2]]


def test_rows_without_a_prefix_need_no_cache():
    assert PrefixCache.at({}, [[], []], n_layers=2) is None

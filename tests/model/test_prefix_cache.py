"""Prefix cache: which prefixes rows share, and where their tokens stand."""

import torch

from editbench.model.prefix_cache import LEAST_SHARED, SharedPrefixes, prefix_columns

CPU = torch.device("cpu")


def test_a_prefix_is_what_all_rows_of_a_cluster_begin_with():
    rows = [(1, 2, 3, 4, 5, 6), (9, 8, 7), (1, 2, 3, 4, 5, 7, 8), (1, 2, 3, 4, 0), (9, 8, 7)]
    prefixes = SharedPrefixes.of(rows)
    assert prefixes.tokens == [(1, 2, 3, 4)]
    assert prefixes.lengths == [4, 0, 4, 4, 0]  # three tokens are fewer than LEAST_SHARED
    assert LEAST_SHARED == 4
    assert SharedPrefixes.of([(1, 2, 3, 4, 5)]).tokens == []  # nobody to share with


def test_prefixes_stand_as_far_right_as_they_can():
    assert prefix_columns([3, 1, 0], 3, CPU).tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 0]]
    assert prefix_columns([2], 4, CPU).tolist() == [[0, 0, 0, 1]]

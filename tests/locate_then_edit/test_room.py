"""Room of methods with covariance: matrices, remembered keys, and the optimisation of values."""

import pytest
import transformers

from editbench.locate_then_edit import values
from editbench.locate_then_edit.room import FACTORED, of_covariance, of_layers, of_values
from editbench.methods.memit import MEMITConfig
from editbench.methods.nse import NSE, NSEConfig
from editbench.methods.rome import ROME, ROMEConfig
from editbench.model.shape import Shape
from editbench.room import Workload
from tests.full_size import requests, workload

SHAPE = Shape.of_config(
    transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, vocab_size=100
    ),
    "float32",
)
WORK = Workload(10, 5, 8.0, 4.0, 2.0, 10)
CONFIG = MEMITConfig(layers=[0, 1])
MATRIX = 8 * 48 * 48


def test_the_matrices_of_all_layers_are_kept_and_one_is_factored_at_a_time():
    room = of_layers(SHAPE, WORK, CONFIG, at_once=5, remembers=False)
    assert room.cache == 2 * MATRIX == of_covariance(SHAPE, [0, 1]).cache
    assert room.kept == 2 * MATRIX + 2 * 48 * 32 * 4  # and the weights before a batch
    assert room.preparing >= 2 * MATRIX + FACTORED * MATRIX
    assert room.host == 2 * 48 * 32 * 4 and room.disk == 2 * (48 + 32) * 2 * 5 * 4


def test_remembered_keys_grow_until_they_are_compacted():
    works = [Workload(n, 5, 8.0, 4.0, 2.0, 10) for n in (5, 20, 9999)]
    kept, plain = (
        [of_layers(SHAPE, work, CONFIG, at_once=5, remembers=r).kept for work in works] for r in (True, False)
    )
    more = [one - other for one, other in zip(kept, plain, strict=True)]
    assert more[0] == 2 * 8 * (64 * 48 + 25) and more[1] == 2 * 8 * (64 * 48 + 400)
    assert more[2] == 2 * 8 * (64 * 48 + 24**2)  # half of d_ff, at most


def test_values_take_more_with_edits_templates_and_layers_above():
    few, many = (of_values(SHAPE, WORK, 1, [10] * n, 5) for n in (2, 6))
    assert 2 * few < many < 3.5 * few
    assert of_values(SHAPE, WORK, 2, [10] * 2, 5) < few < of_values(SHAPE, WORK, 1, [10] * 2, 6)


def test_on_a_cpu_no_more_edits_are_optimised_at_once_than_fit(monkeypatch):
    whole = of_values(SHAPE, WORK, 1, [10], 5)
    monkeypatch.setattr("editbench.locate_then_edit.room.CPU_BYTES", 1)
    assert of_values(SHAPE, WORK, 1, [10], 5) == of_values(SHAPE, WORK, 1, [10], 1) < whole
    assert values.numbers_of_rows(3, 2, 10, 20) == 3 * 2 * (160 + 80)


def test_rome_without_a_covariance_keeps_no_matrix():
    without = ROME.room(ROMEConfig(layer=1, covariance_adjustment=False), SHAPE, WORK)
    room = ROME.room(ROMEConfig(layer=1), SHAPE, WORK)
    assert (without.preparing, without.cache) == (0, 0) and room.kept - without.kept == room.cache == MATRIX
    assert room.editing == without.editing


def test_nse_on_a_subset_of_neurons_keeps_the_sum_of_all_keys():
    settings = {"layers": [0, 1], "neuron_threshold": 0.8}
    few, many = (NSE.room(NSEConfig(**settings), SHAPE, Workload(n, 5, 8.0, 4.0, 2.0, 10)) for n in (60, 64))
    assert many.kept - few.kept == pytest.approx(2 * MATRIX, rel=0.3)
    forgetful = NSE.room(NSEConfig(**settings, memory="none"), SHAPE, WORK)
    assert forgetful.kept < few.kept and forgetful.disk < few.disk
    assert len(requests(3)) == 3 and workload(4, 2, ["{}"]).templates == ()

"""Room of methods that edit by gradients: passes, thin changes, and their network."""

import torch
import transformers

from editbench.gradient_based.network import EditNetwork
from editbench.gradient_based.room import named_layers, of_network, of_passes
from editbench.methods.mend import MENDConfig
from editbench.methods.ultraedit import UltraEditConfig
from editbench.model.shape import Shape
from editbench.room import Workload

SHAPE = Shape.of_config(
    transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, vocab_size=100
    ),
    "float32",
)
SIZES = [(48, 32), (48, 32)]


def work(edits, batch):
    return Workload(edits, batch, 8.0, 4.0, 2.0, 10)


def test_a_change_is_as_thin_as_its_tokens():
    config, statistics = UltraEditConfig(layers=[1, 2]), 2 * (48 + 32) * 4
    room = of_passes(SHAPE, work(4, 4), config, SIZES, 1, tokens=2)
    assert room.disk == 2 * 8 * (48 + 32) * 4 + statistics and room.kept == statistics
    assert room.host == 2 * 48 * 32 * 4
    thick = of_passes(SHAPE, work(400, 400), config, SIZES, 1, tokens=2)
    assert thick.disk == 2 * 48 * 32 * 4 + statistics  # the whole weight


def test_a_pass_is_of_so_many_edits_from_the_first_module_on():
    config = UltraEditConfig(layers=[1, 2], edits_at_once=2)
    lower, upper = (of_passes(SHAPE, work(2, 2), config, SIZES, first, tokens=2).editing for first in (0, 2))
    assert lower > upper
    assert of_passes(SHAPE, work(2, 2), UltraEditConfig(edits_at_once=9), SIZES, 0, tokens=2).editing == lower


def test_the_network_is_counted_to_the_number():
    config, shapes = MENDConfig(rank=3, blocks=2), {"a": "48x32", "b": "48x32", "c": "32x48"}
    network = EditNetwork(shapes, rank=3, blocks=2, learning_rate=1.0, scale_inside=True, ridge=False)
    blocks = sum(p.numel() for name, p in network.named_parameters() if "learning_rate" not in name)
    assert of_network(config, [(48, 32), (48, 32), (32, 48)]) == blocks and torch.is_tensor(network.learning_rate("a"))


def test_layers_of_named_modules():
    assert named_layers(["model.layers.11.mlp.gate_proj", "transformer.h.3.attn"]) == [11, 3]
    assert named_layers(None) == []

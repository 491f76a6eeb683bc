"""RLEdit beside UltraEdit and the plain way."""

import pytest
import torch

from editbench import Ledger, make_editor
from editbench.gradient_based.normalisation import EPSILON
from tests.methods.ultraedit.test_editor import MANY, plain_rows
from tests.small_runs import REQUESTS, same, weights
from tests.tiny_models import tiny_lm

SETTINGS = {"layers": [0, 2], "network": "untrained", "learning_rate": 1e-2, "rank": 3, "blocks": 2}


def randomise(network):
    """Numbers in all parameters, so that every one of them counts."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


@pytest.mark.parametrize("loss", ["editwise", "published"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt-post"])
def test_two_batches_beside_the_plain_way(architecture, loss):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    editor = make_editor("rledit", lm, loss=loss, **SETTINGS)
    randomise(editor.network)
    (network,) = editor.network.shapes.values()
    history = []
    for batch in (REQUESTS, MANY):
        editor.edit(batch)
        seen = plain_rows(other, batch, list(editor.modules), loss)
        history += [torch.cat(pair, dim=1) for pair in seen.values()]
        every = torch.cat(history)
        for i, (name, (h, g)) in enumerate(seen.items()):
            y = (torch.cat([h, g], dim=1) - every.mean(0)) / (every.std(0) + EPSILON)
            for block in network.blocks:
                u = (y @ block.A @ block.B + block.bias).clamp(min=0)
                y = block.scale[i] * u + block.shift[i] + y
            width = h.shape[1]
            v = -network.learning_rate[i] * (h * y[:, :width]).sum(1, keepdim=True) * y[:, width:]
            square = h.T @ h + network.log_ridge[i].exp() * torch.eye(width, dtype=h.dtype)
            delta = torch.linalg.solve(square, h.T @ v).T.detach()
            weight = other.weight(f"{name}.weight")
            weight.add_(delta)
            assert torch.allclose(lm.weight(f"{name}.weight"), weight, rtol=0, atol=1e-5 * float(delta.abs().max()))


def test_untrained_it_is_ultraedit_with_raw_keys_in_place_of_squares():
    """V = -lr (h · ĥ) ĝ where UltraEdit has ‖ĥ‖²: with h = ĥ, as normalised by nothing, the two are one."""
    first, second = tiny_lm("gpt2", "float64"), tiny_lm("gpt2", "float64")
    rl, ultra = make_editor("rledit", first, **SETTINGS), make_editor("ultraedit", second, layers=[0, 2])
    _, (seen,) = rl.look(REQUESTS)
    name, (h, g) = next(iter(seen.items()))
    left, right = rl.factors(name, h, g, None)
    change = ultra._update(name, h, g, Unchanged())
    scaled = change.left @ change.right.T if hasattr(change, "left") else change.delta
    assert torch.allclose(left @ right.T, scaled * 1e-2 / ultra.config.learning_rate, rtol=1e-6)


class Unchanged:
    """A normaliser that leaves rows as they are."""

    mean = torch.zeros(1)

    def normalise(self, x):
        return x


def test_statistics_go_on_from_edit_to_edit_and_back(tmp_path):
    lm = tiny_lm("gpt2")
    editor = make_editor("rledit", lm, ledger=Ledger(lm, tmp_path), **SETTINGS)
    assert editor.state() == {} and editor.kept_statistics() == {}
    editor.edit(REQUESTS[:2])
    middle, state = weights(lm), editor.state()
    editor.edit(REQUESTS[2:])
    assert editor.state()["48x32/count"] > state["48x32/count"]
    editor.ledger.rollback(keep=1)
    assert same(weights(lm), middle) and same(editor.state(), state) and editor.state_beside_ledger() == {}
    with pytest.raises(ValueError, match="no statistics of RLEdit"):
        editor.restore({"facts": torch.zeros(1)})


def test_the_published_merge_counts_each_pass_by_itself_as_ultraedit_does():
    settings = {"layers": [0, 2], "merge": "published", "edits_at_once": 1}
    found = []
    for method, own in (("rledit", {"network": "untrained", "rank": 3}), ("ultraedit", {})):
        editor = make_editor(method, tiny_lm("gpt2", "float64"), **settings, **own)
        editor.edit(MANY)
        found.append(editor.state())
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[0][key], found[1][key], rtol=1e-9) for key in found[0])

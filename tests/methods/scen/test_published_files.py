"""Files of torch.save become a bank that answers as the one that they were made from; nothing else is read."""

import pytest
import torch

from editbench.methods.scen.published_files import import_published
from tests.small_runs import REQUESTS, editor_of
from tests.tiny_models import tiny_lm

pytestmark = pytest.mark.model


@pytest.fixture
def trained():
    editor = editor_of("scen", tiny_lm("llama"), neuron_steps=200)
    editor.edit(REQUESTS)
    return editor


AS_SAVED = {  # by that code, and ways in which such files are also found
    "parameter": torch.nn.Parameter,
    "tensor": lambda tensor: tensor,
    "state dict": lambda tensor: {"weight": tensor},
}
NAMES = {"expert_learning_weight": "expert_router", "expert_": "neural_"}


def save(editor, folder, wrap="parameter", expert_name="expert_learning_weight"):
    """As SCEN's own code saves them: whole projections, and neurons as weights of a linear layer of one output."""
    (folder / "experts").mkdir()
    (folder / "neurons").mkdir()
    base = editor.lm.weight(editor.bank.weight).detach()
    for number, expert in enumerate(editor.bank, start=1):
        projection = base + expert.compressed.delta(base.dtype)
        torch.save(AS_SAVED[wrap](projection), folder / "experts" / f"{expert_name}{number}.pt")
        torch.save(AS_SAVED[wrap](expert.neuron[None]), folder / "neurons" / f"{NAMES[expert_name]}{number}.pt")
    return folder / "experts", folder / "neurons"


@pytest.mark.parametrize("wrap", AS_SAVED)
@pytest.mark.parametrize("expert_name", NAMES)
def test_the_bank_is_the_published_one(trained, tmp_path, wrap, expert_name):
    places = save(trained, tmp_path, wrap, expert_name)
    editor = editor_of("scen", tiny_lm("llama"))
    import_published(editor, REQUESTS, *places)
    assert editor.bank.ids == trained.bank.ids and editor.bank.prompts == trained.bank.prompts
    assert not editor.bank.neurons.requires_grad
    torch.testing.assert_close(editor.bank.neurons, trained.bank.neurons)
    torch.testing.assert_close(editor.bank.inputs, trained.bank.inputs)
    for ours, theirs in zip(editor.bank, trained.bank, strict=True):
        assert not ours.compressed.delta(torch.float32).requires_grad
        torch.testing.assert_close(ours.compressed.delta(torch.float32), theirs.compressed.delta(torch.float32))
    prompts = [request.prompt for request in REQUESTS]
    assert editor.route(prompts) == trained.route(prompts)
    assert editor.generate(prompts, max_new_tokens=3) == trained.generate(prompts, max_new_tokens=3)


def test_neurons_may_lie_in_one_file(trained, tmp_path):
    experts, _ = save(trained, tmp_path)
    torch.save(trained.bank.neurons.clone(), tmp_path / "all.pt")
    editor = editor_of("scen", tiny_lm("llama"))
    import_published(editor, REQUESTS, experts, tmp_path / "all.pt")
    torch.testing.assert_close(editor.bank.neurons, trained.bank.neurons)


class Harmful:
    """Would be made by calling `print`, if a pickle of it were loaded."""

    def __reduce__(self):
        return print, ("run",)


def test_what_does_not_fit_is_named_and_nothing_is_added(trained, tmp_path, capsys):
    experts, neurons = save(trained, tmp_path)
    editor = editor_of("scen", tiny_lm("llama"))
    with pytest.raises(ValueError, match="has 4 experts and .* 4 neurons for 3 edits"):
        import_published(editor, REQUESTS[:3], experts, neurons)
    with pytest.raises(ValueError, match="has no file named like"):
        import_published(editor, REQUESTS, tmp_path, neurons)
    torch.save(torch.zeros(2, 2), experts / "expert_1.pt")
    with pytest.raises(ValueError, match=r"expert_1\.pt has \(2, 2\); it must have one tensor"):
        import_published(editor, REQUESTS, experts, neurons)
    torch.save(Harmful(), experts / "expert_1.pt")
    with pytest.raises(ValueError, match=r"expert_1\.pt cannot be read as tensors alone"):
        import_published(editor, REQUESTS, experts, neurons)
    assert len(editor.bank) == 0 and capsys.readouterr().out == ""

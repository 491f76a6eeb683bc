"""RLEdit against the published code's numbers: a training on two groups of three, and the same groups edited."""

import json

import pytest
from safetensors.torch import load_file

from editbench import EditRequest, make_editor
from editbench.gradient_based.network_training import Group, NetworkTraining
from editbench.gradient_based.training_examples import Example
from editbench.gradient_based.training_rows import TrainingRows
from tests.golden_edits import FOLDER, golden_lm, relative

PLACE = FOLDER / "rledit-gpt2"
NAMES = {"lr": "learning_rate", "lamda": "log_ridge"}


class Golden:
    """Data, tensors, and an editor with the published constants."""

    def __init__(self):
        self.data = json.loads((PLACE / "data.json").read_text(encoding="utf-8"))
        self.tensors = load_file(PLACE / "tensors.safetensors")
        self.lm, constants = golden_lm(), self.data["constants"]
        self.editor = make_editor(
            "rledit",
            self.lm,
            modules=self.data["modules"],
            network="untrained",
            rank=constants["rank"],
            blocks=constants["n_blocks"],
            learning_rate=constants["lr"],
            network_learning_rate=constants["meta_lr"],
            locality_weight=constants["loc_coef"],
            gradient_clip=constants["max_grad_norm"],
            time_decay=constants["time_decay"],
            back_depth=constants["back_depth"],
            group=3,
            merge="published",
            locality_gradient="published",
        )

    def network(self, part):
        """Parameters of "net_init", "net_grad" or "net_trained" by our names."""
        found = {}
        for key, tensor in self.tensors.items():
            name = key.removeprefix(f"{part}.256x64.").removesuffix(".weight")
            if key.startswith(part):
                found[f"shapes.256x64.{NAMES.get(name, name)}"] = tensor[:, 0] if name in NAMES else tensor
        return found

    def load(self, part):
        own = self.editor.network.state_dict()
        self.editor.network.load_state_dict({**own, **self.network(part)})

    def groups(self):
        def requests(rows, prompt, answer):
            return [EditRequest(str(row["case_id"]), row[prompt], None, row[answer]) for row in rows]

        names = (("prompt", "answer"), ("rephrase", "answer"), ("locality_prompt", "locality_answer"))
        for rows in (self.data["rows"][:3], self.data["rows"][3:]):
            yield Group(*(requests(rows, *pair) for pair in names))

    def training(self):
        groups = list(self.groups())
        examples = [Example(e, (r,), (k,)) for g in groups for e, r, k in zip(g.edits, g.rewrites, g.kept, strict=True)]
        return NetworkTraining(self.editor, examples, self.editor.plan())


@pytest.fixture(scope="module")
def trained():
    golden = Golden()
    golden.load("net_init")
    groups, training = list(golden.groups()), golden.training()
    for turn in (0, 1):
        before = {name: golden.lm.weight(f"{name}.weight").clone() for name in golden.data["modules"]}
        losses = training.learn(groups[turn::-1])
        earlier = [losses_of(golden, groups[0].rewrites)] if turn else []  # the published log has the plain mean
        nearest = losses["edit"] - 0.95 * sum(earlier)
        assert abs((nearest + sum(earlier)) / (1 + turn) - golden.data["logs"][turn]["gen_loss"]) < 1e-4
        norms = [float((golden.lm.weight(f"{name}.weight") - was).norm()) for name, was in before.items()]
        assert norms == pytest.approx(golden.data["train"][turn]["shift_norms"], rel=1e-3)
    golden.statistics = training.statistics
    golden.gradients = {name: p.grad.clone() for name, p in golden.editor.network.named_parameters()}
    golden.adam = training.adam
    training._set(training._original)
    return golden


def losses_of(golden, rewrites):
    """Mean NLL of the rewrites' tokens now."""
    return float(TrainingRows(golden.lm, rewrites).nll().mean())


def test_the_gradient_of_the_network(trained):
    wanted = trained.network("net_grad")
    assert len(wanted) == 8  # the others are zero
    for name, gradient in trained.gradients.items():
        if name in wanted:
            assert relative(gradient, wanted[name]) < 1e-3, name
        else:
            assert not gradient.any(), name


def test_the_only_step_moves_everything_by_the_rate(trained):
    """Adam's first step, from the published gradient."""
    trained.load("net_init")
    for name, gradient in trained.network("net_grad").items():
        trained.editor.network.get_parameter(name).grad.copy_(gradient)
    trained.adam.step()
    for name, tensor in trained.network("net_trained").items():
        assert relative(trained.editor.network.get_parameter(name).data, tensor) < 1e-3, name


def test_edits_with_the_trained_network(trained):
    trained.load("net_init")
    trained.load("net_trained")
    editor, tensors = trained.editor, trained.tensors
    editor.trained_statistics = {name: one.copy() for name, one in trained.statistics.items()}
    for turn, group in enumerate(trained.groups()):
        norms = editor.edit(group.edits).details["update_norms"]
        assert list(norms.values()) == pytest.approx(trained.data["turns"][turn]["shift_norms"], rel=1e-3)
        (statistics,) = editor.kept_statistics().values()
        assert statistics.count == int(tensors[f"turn{turn}.n"])
        assert relative(statistics.mean, tensors[f"turn{turn}.mean"]) < 1e-5
        assert relative(statistics.spread, tensors[f"turn{turn}.std"]) < 1e-5
    for name in trained.data["modules"]:
        wanted = tensors[f"delta.{name}.left"] @ tensors[f"delta.{name}.right"].T
        assert relative(editor.ledger.delta(f"{name}.weight"), wanted) < 1e-3
    editor.ledger.rollback()

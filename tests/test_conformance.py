"""What every registered method must do, on tiny models of four kinds. A new method joins by a line in ``SETTINGS``."""

import pytest
import torch

from editbench import EditRequest, Ledger, Resources, make_editor, plugins
from editbench.records import NOT_FINITE, EditError
from editbench.registry import load_method
from tests.zoo import LINES, POSITIONS, tiny_lm

VALUE = {"steps": 4, "learning_rate": 0.3, "ridge": 0.05}
SETTINGS = {
    "unedited": {},
    "finetune": {"layer": 1, "steps": 3, "learning_rate": 1e-2, "norm_bound": 1e-2},
    "rome": {"layer": 1, **VALUE},
    "memit": {"layers": [0, 1], "covariance_weight": 10.0, **VALUE},
    "nse": {
        "layers": [0, 1],
        "covariance_weight": 10.0,
        "alpha": 0.0,
        "upper_bound": 1e9,
        "max_iterations": 3,
        **VALUE,
    },
    "scen": {"layer": 1, "expert_steps": 3, "neuron_steps": 40, "learning_rate": 2e-2},
}
APART = {"external_weights"}
"""Methods that make no edits of their own; they have tests of their own."""
METHODS = [
    name
    for name in plugins.entry_points(plugins.METHODS)
    if name not in APART and load_method(name).__module__.startswith("editbench.")
]
WRITERS = [m for m in METHODS if m != "unedited"]
HOSTS = ("gpt2", "llama", "gemma2", "opt-post")
REQUESTS = [
    EditRequest("a", "The mother tongue of Danielle Darrieux is", "Danielle Darrieux", "English", "French"),
    EditRequest("b", "Toko Yasuda plays the", "Toko Yasuda", "guitar, they say", "guitar"),
    EditRequest("c", "The twin city of Lyon is", "Lyon", "Rome", "Manila"),
    EditRequest("d", "Marcel Maupoil lives in", "Marcel Maupoil", "London", "Paris"),
]
PROMPTS = [r.prompt for r in REQUESTS] + ["Anaal Nathrakh was created in"]
TEMPLATES = ["{}", "They say. {}", "In Spain, {}"]


def editor_of(method, lm, ledger=None):
    generator = torch.Generator().manual_seed(3)
    covariance = {}
    for layer in range(lm.n_layers):
        x = torch.randn(lm.d_ff(layer), 200, generator=generator, dtype=torch.float64)
        covariance[layer] = x @ x.T / 200
    resources = Resources(texts=LINES, templates=TEMPLATES, covariance=covariance, seed=1)
    return make_editor(method, lm, ledger=ledger, resources=resources, **SETTINGS[method])


def weights(lm):
    return {k: v.clone() for k, v in lm.model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def logits(editor):
    """What the edited model says to each prompt, the editor's own way of answering included."""
    found = []
    for prompt in PROMPTS:
        ids = torch.tensor([editor.lm.encode(prompt).ids])
        with torch.no_grad(), editor.answering([ids.shape[1] - 1]):
            found.append(editor.lm.model(input_ids=ids).logits[0, -1].clone())
    return torch.stack(found)


def test_every_method_is_here():
    assert set(METHODS) == set(SETTINGS), "give the new method a line in SETTINGS"


@pytest.mark.parametrize("architecture", HOSTS)
@pytest.mark.parametrize("method", METHODS)
def test_rollback_is_bitwise(method, architecture):
    lm = tiny_lm(architecture)
    editor = editor_of(method, lm)
    before, unedited = weights(lm), logits(editor)
    editor.prepare(REQUESTS)
    result = editor.edit(REQUESTS[:2])
    assert result.applied == ["a", "b"]
    middle, half_edited = weights(lm), logits(editor)
    editor.edit(REQUESTS[2:])
    assert editor.ledger.edited_ids == ["a", "b", "c", "d"]
    if editor.capabilities.changes == "weights":
        assert not same(middle, before)
    editor.ledger.rollback(keep=1)
    assert same(weights(lm), middle)
    assert torch.equal(logits(editor), half_edited)
    editor.ledger.rollback()
    assert same(weights(lm), before)
    assert torch.equal(logits(editor), unedited)


@pytest.mark.parametrize("architecture", HOSTS)
@pytest.mark.parametrize("method", WRITERS)
def test_an_edit_changes_the_answer_to_its_prompt(method, architecture):
    """The new target becomes likelier: not how well, but that it does something at all."""
    editor = editor_of(method, tiny_lm(architecture))
    ids = [editor.lm.continuation(r.target)[0] for r in REQUESTS[:2]]
    before = logits(editor).log_softmax(-1)
    editor.edit(REQUESTS[:2])
    after = logits(editor).log_softmax(-1)
    gains = [float(after[i, t] - before[i, t]) for i, t in enumerate(ids)]
    assert sum(gains) > 0, gains


@pytest.mark.parametrize("architecture", HOSTS)
@pytest.mark.parametrize("method", METHODS)
def test_save_replay_and_restore_go_on_bitwise(method, architecture, tmp_path):
    """A fresh process with the ledger and the saved state ends where the first one does."""
    first = editor_of(method, tiny_lm(architecture), None)
    first.ledger = Ledger(first.lm, tmp_path)
    first.prepare(REQUESTS)
    first.edit(REQUESTS[:2])
    state = {k: v.clone() for k, v in first.state().items()}
    second_lm = tiny_lm(architecture)
    second = editor_of(method, second_lm, Ledger(second_lm, tmp_path))
    second.prepare(REQUESTS)
    second.ledger.replay()
    second.restore(state)
    assert same(weights(second_lm), weights(first.lm))
    assert torch.equal(logits(second), logits(first))
    second.ledger.directory = first.ledger.directory = None
    for editor in (first, second):
        editor.edit(REQUESTS[2:])
    assert same(weights(second_lm), weights(first.lm))
    assert torch.equal(logits(second), logits(first))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_edits_give_the_same_bits(method):
    found = []
    for _ in range(2):
        editor = editor_of(method, tiny_lm("llama"))
        editor.prepare(REQUESTS)
        editor.edit(REQUESTS)
        found.append(logits(editor))
    assert torch.equal(*found)


@pytest.mark.parametrize("method", METHODS)
def test_a_request_without_subject_is_edited_or_refused_with_a_reason(method):
    editor = editor_of(method, tiny_lm("gpt2"))
    before = weights(editor.lm)
    result = editor.edit([EditRequest("q", "What is the twin city of Lyon?", None, "Rome")])
    if editor.capabilities.needs_subject:
        assert result.applied == []
        assert result.skipped["q"].startswith("unsupported: ")
        assert same(weights(editor.lm), before)
    else:
        assert result.applied == ["q"]


def request_of(lm, tokens, target="Rome", **answers):
    """A request whose prompt has so many tokens."""
    subject, prompt = "Lyon", "The twin city of Lyon is"
    prompt += " is" * (tokens - len(lm.encode(prompt).ids))
    assert len(lm.encode(prompt).ids) == tokens
    return EditRequest("long", prompt, subject, target, **answers)


@pytest.mark.parametrize("architecture", HOSTS)
@pytest.mark.parametrize("method", METHODS)
def test_what_the_model_cannot_take_is_unsupported_by_every_method(method, architecture):
    """GPT-2 has no more positions: the longest that is supported is edited without an error."""
    lm = tiny_lm(architecture)
    editor = editor_of(method, lm)
    answer = len(lm.continuation("Rome"))
    result = editor.edit([REQUESTS[0], request_of(lm, POSITIONS + 1 - answer)])
    assert result.applied == ["a"]
    taken = f"prompt and answer take {POSITIONS + 1} tokens, {lm.name} has {POSITIONS}"
    assert result.skipped == {"long": f"unsupported: {taken}"}
    true = request_of(lm, POSITIONS - answer, target_true="English and Russian, they say")
    assert editor.edit([true]).skipped["long"].startswith("unsupported: prompt and answer take")
    longest = request_of(lm, POSITIONS - answer)
    if "templates" not in vars(type(editor)):
        assert editor.edit([longest]).applied == ["long"]
        return
    reason = editor.edit([longest]).skipped["long"]
    assert reason.startswith(f"unsupported: the longest row of {type(editor).__name__}, with what it puts around")
    around = max(len(lm.encode(t.replace("{}", longest.prompt)).ids) for t in TEMPLATES) - POSITIONS + answer
    assert f"takes {POSITIONS + around - 1} tokens" in reason  # the answer's last token is not fed in
    assert editor.edit([request_of(lm, POSITIONS + 1 - answer - around)]).applied == ["long"]


@pytest.mark.parametrize("architecture", HOSTS)
@pytest.mark.parametrize("method", WRITERS)
def test_nan_stops_the_edit_names_it_and_leaves_the_model(method, architecture):
    lm = tiny_lm(architecture)
    editor = editor_of(method, lm)
    editor.prepare([])
    editor.edit(REQUESTS[:1])
    lm.model.get_input_embeddings().weight.data[lm.encode("Toko").ids[-1]] = float("nan")
    before, edited, said = weights(lm), editor.ledger.edited_ids, logits(editor)
    with pytest.raises(EditError) as error:
        editor.edit([REQUESTS[1]])
    assert (error.value.ids, error.value.kind) == (("b",), NOT_FINITE)
    assert all(torch.equal(before[k].nan_to_num(7), v.nan_to_num(7)) for k, v in weights(lm).items())
    assert editor.ledger.edited_ids == edited
    assert torch.equal(logits(editor).nan_to_num(7), said.nan_to_num(7))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("method", WRITERS)
def test_other_dtypes(method, dtype):
    editor = editor_of(method, tiny_lm("llama", dtype))
    before = logits(editor)
    result = editor.edit(REQUESTS[:2])
    assert result.applied == ["a", "b"]
    assert torch.isfinite(logits(editor).float()).all()
    assert not torch.equal(logits(editor), before)


@pytest.mark.parametrize("method", METHODS)
def test_footprint_and_gradients(method):
    """Bytes are counted, and the model is left frozen and in evaluation mode."""
    editor = editor_of(method, tiny_lm("gpt2"))
    editor.edit(REQUESTS[:2])
    footprint = editor.footprint()
    assert min(footprint.device, footprint.host, footprint.disk) >= 0
    assert not any(p.requires_grad for p in editor.lm.model.parameters())
    assert all(p.grad is None for p in editor.lm.model.parameters())
    assert not editor.lm.model.training

"""The editor's interface: prompts that are transformed, batches that are cut, requests that are refused, footprints."""

import pytest
import torch

from editbench import EditRequest, Ledger, Resources, make_editor
from editbench.editor import Capabilities, Editor, Footprint
from editbench.ledger import Dense, LedgerError
from editbench.records import PromptFormat
from tests.methods.prompt_editor import InContext, in_context
from tests.small_runs import REQUESTS, editor_of
from tests.tiny_models import add_token, tiny_lm, word_tokenizer

FORMAT = PromptFormat("[INST] ", " [/INST]")


class Recorder(Editor[dict]):
    """Notes the size of each part that it is given."""

    capabilities = Capabilities(needs_subject=True, max_batch=2)

    def write(self, batch, transaction, result):
        self.config.setdefault("sizes", []).append(len(batch))
        if any(request.id == "d" for request in batch):
            result.skipped["d"] = "for a test"


class Suffixed(InContext):
    """Breaks the rule that the prompt comes last."""

    def transform_prompt(self, prompt):
        return f"{prompt} please"


@pytest.fixture(scope="module")
def lm():
    return tiny_lm("llama")


def test_a_prompt_is_asked_as_it_is_by_default(lm):
    for prompt_format in (PromptFormat(), FORMAT):
        editor = Recorder(lm, Ledger(lm), {}, Resources(prompt_format=prompt_format))
        assert editor.asked("Lyon is") == "Lyon is"
        assert editor.asked(FORMAT.apply("Lyon is")) == "[INST] Lyon is [/INST]"


@pytest.mark.parametrize("prompt_format", [PromptFormat(), FORMAT])
def test_a_prompt_is_transformed_inside_its_format(lm, prompt_format):
    editor = in_context(lm, prompt_format)
    apply = prompt_format.apply
    assert editor.asked(apply("Lyon is")) == apply("Lyon is")
    editor.edit([EditRequest("a", apply("The twin city of Lyon is"), None, "Rome")])
    assert editor.asked(apply("Lyon is")) == apply("Fact: The twin city of Lyon is Rome. Lyon is")
    assert editor.asked("") == "Fact: The twin city of Lyon is Rome. "
    assert editor.asked("A text.").endswith("A text.")  # has no format, and comes last


def test_a_prompt_that_does_not_come_last_is_refused(lm):
    with pytest.raises(ValueError, match="Suffixed.transform_prompt made 'Lyon is please' of 'Lyon is'; it must end"):
        in_context(lm, FORMAT, Suffixed).asked(FORMAT.apply("Lyon is"))


def test_batches_are_cut_and_ids_are_counted(lm):
    editor = Recorder(lm, Ledger(lm), {})
    bare = EditRequest("bare", "Lyon is", None, "Rome")
    result = editor.edit([*REQUESTS, bare])
    assert editor.config["sizes"] == [2, 2]
    assert result.applied == ["a", "b", "c"]
    assert result.skipped == {
        "d": "for a test",
        "bare": "unsupported: Recorder needs a subject, and the record has none",
    }
    assert len(editor.ledger) == 1 and result.seconds > 0


def test_only_own_states_are_restored(lm):
    editor = Recorder(lm, Ledger(lm), {})
    editor.restore({})
    with pytest.raises(ValueError, match=r"Recorder keeps no state, but was given \['keys'\]"):
        editor.restore({"keys": torch.zeros(1)})


def test_footprint():
    tensors = [torch.zeros(3, dtype=torch.float64), torch.zeros(2, 2, device="meta", dtype=torch.float16)]
    assert Footprint.of(tensors, disk=7) == Footprint(device=8, host=24, disk=7)
    assert Footprint.of([]) == Footprint()


class Closer(Editor[dict]):
    """Changes a weight once a stream has ended."""

    def write(self, batch, transaction, result):
        pass

    def conclude(self, transaction, result):
        name = self.lm.mlp_out_name(0)
        transaction.apply(Dense(name, torch.full(tuple(self.lm.weight(name).shape), self.config["by"])))
        result.details["closed"] = True


def test_the_end_of_a_stream_is_a_batch_without_ids():
    lm = tiny_lm("llama")
    editor, before = Closer(lm, Ledger(lm), {"by": 1.0}), lm.weight(lm.mlp_out_name(0)).clone()
    editor.edit(REQUESTS[:2])
    assert editor.concludes and editor.finish().details == {"closed": True}
    assert [entry.ids for entry in editor.ledger.entries] == [("a", "b"), ()]
    assert torch.equal(lm.weight(lm.mlp_out_name(0)), before + 1)
    editor.config["by"] = float("nan")
    with pytest.raises(LedgerError, match="NaN"):
        editor.finish()
    assert len(editor.ledger) == 2 and torch.equal(lm.weight(lm.mlp_out_name(0)), before + 1)
    editor.ledger.rollback(1)
    assert torch.equal(lm.weight(lm.mlp_out_name(0)), before)


def test_most_methods_do_nothing_at_the_end():
    lm = tiny_lm("llama")
    editor = Recorder(lm, Ledger(lm), {})
    assert not editor.concludes
    editor.finish()
    assert len(editor.ledger) == 0


def test_an_edit_takes_one_request_or_dictionaries_and_says_which_hold(lm):
    editor = make_editor("finetune", tiny_lm("llama"), layer=1, steps=150, learning_rate=0.02, norm_bound=None)
    result = editor.edit({"prompt": "The twin city of Lyon is", "subject": "Lyon", "target_new": "Rome"})
    assert result.applied == ["0"] and result.holds == {"0": True}
    again = make_editor("unedited", tiny_lm("llama")).edit(REQUESTS[0])
    assert again.holds == {REQUESTS[0].id: False}
    assert "finetune" not in repr(editor) and "of tiny-llama: 1 batches edited" in repr(editor)
    with pytest.raises(TypeError, match="str cannot be edited; give an EditRequest"):
        editor.edit("Lyon is")


def fields_of(request):
    return {"prompt": request.prompt, "target": request.target}


def test_dictionaries_of_several_calls_have_ids_of_their_own(lm, tmp_path):
    editor = Recorder(lm, Ledger(lm, tmp_path), {})
    both = [{**fields_of(r), "subject": r.subject} for r in REQUESTS[:2]]
    assert [editor.edit([one]).applied for one in both] == [["0"], ["1"]]
    assert editor.edit([REQUESTS[2], *both]).applied == ["c", "2", "3"]
    editor.ledger.forget_id("3")
    assert editor.edit(both[0]).applied == ["4"]  # "3" could come back
    editor.ledger.rollback(1)
    assert editor.edit(both[1]).applied == ["1"]
    resumed = Recorder(lm, Ledger(lm, tmp_path), {})
    resumed.ledger.replay()
    assert resumed.edit(both).applied == ["2", "3"]


@pytest.mark.parametrize("method", ["grace", "melo", "scen"])
def test_an_edit_without_an_id_replaces_no_earlier_one(method):
    editor = editor_of(method, tiny_lm("llama"))
    for request in REQUESTS[:2]:
        editor.edit({**fields_of(request), "subject": request.subject})
    assert editor.ledger.edited_ids == ["0", "1"]
    assert [route.id for route in editor.route([request.prompt for request in REQUESTS[:2]])] == ["0", "1"]


@pytest.mark.parametrize("method", ["grace", "retrieval", "rome"])
def test_one_prompt_is_given_as_a_text_or_in_a_list_and_none_is_answered_by_none(method):
    editor, prompt = editor_of(method, tiny_lm("llama")), REQUESTS[0].prompt
    for _ in range(2):  # without an edit, then with one
        assert editor.route(prompt) == editor.route([prompt])
        assert editor.generate(prompt, max_new_tokens=2) == editor.generate([prompt], max_new_tokens=2)
        assert editor.generate([]) == editor.lm.generate([]) == []
        editor.edit(REQUESTS[:1])


@pytest.mark.parametrize(("method", "settings"), [("rome", {"layer": 3}), ("memit", {"layers": [1, 9]})])
def test_a_layer_that_does_not_exist_is_refused_at_once(lm, method, settings):
    with pytest.raises(ValueError, match=r"layer [39] does not exist: tiny-llama has layers 0 to 2"):
        make_editor(method, lm, **settings)


def test_most_methods_have_nothing_to_train(lm, tmp_path):
    with pytest.raises(ValueError, match="Unedited has nothing to train"):
        make_editor("unedited", lm).train(tmp_path / "x.safetensors")


@pytest.mark.parametrize("method", ["rome", "finetune"])
def test_a_record_with_a_token_that_has_no_embedding_is_refused_alone(method):
    lm = tiny_lm("llama")
    added = add_token(lm, "Lyonesse")
    fields = {"prompt": "The capital of Galicia is", "subject": "Galicia", "target": "Rome"}
    batch = [{"id": "good", **fields}, {"id": "bad", **fields, "target": "Lyonesse"}]
    result = editor_of(method, lm).edit(batch)
    assert result.applied == ["good"]
    assert result.skipped["bad"].startswith(f"unsupported: 'Lyonesse' has the token 'Lyonesse' (id {added}), but")
    assert set(result.holds) == {"good", "bad"} and not result.holds["bad"]


@pytest.mark.parametrize("changes", [{"target": "東京"}, {"subject": "Lyon"}, {"target_true": "東京"}])
def test_a_record_with_an_answer_or_subject_that_the_tokenizer_cannot_write_is_refused(changes):
    lm = tiny_lm("llama")
    lm.tokenizer = word_tokenizer("x", "Toko", "from", "plays", "guitar")
    fields = {"prompt": "Toko from Lyon plays", "subject": "Toko", "target": "guitar"}
    editor = editor_of("rome", lm)
    assert editor.refusal(EditRequest("r", **fields)) is None
    wanted = f"unsupported: the tokenizer cannot write {next(iter(changes.values()))!r}: it gives <unk>"
    assert editor.refusal(EditRequest("r", **{**fields, **changes})).startswith(wanted)


def test_a_method_that_cannot_delete_says_so(lm):
    with pytest.raises(NotImplementedError, match=r"Recorder cannot delete one edit; editor.ledger.rollback\(keep\)"):
        Recorder(lm, Ledger(lm), {}).delete("a")

"""Editors at the subject's last token: the rows that decide whether a request is too long."""

import pytest

from editbench import EditRequest
from tests.edits import TEMPLATES, edits
from tests.methods.locate_then_edit import make
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("method", ["rome", "memit", "nse", "alphaedit", "pmet"])
@pytest.mark.parametrize("train_eos", [False, True], ids=["target", "eos"])
def test_rows_are_those_of_the_optimisation(method, train_eos):
    lm, request = tiny_lm("gpt2"), edits(1)[0]
    layer = {"layer": 1} if method == "rome" else {"layers": [0, 1]}
    editor = make(method, lm, train_eos=train_eos, **layer)
    target = lm.continuation(request.target) + [lm.tokenizer.eos_token_id] * train_eos
    prompts = [lm.encode(template.replace("{}", request.prompt)).ids for template in TEMPLATES]
    wanted = [*(tuple(ids + target[:-1]) for ids in prompts), tuple(lm.encode(f"{request.subject} is a").ids)]
    assert editor.rows(request) == wanted


def test_templates_count_for_the_length():
    lm = tiny_lm("gpt2")
    editor, words = make("memit", lm, layers=[0, 1]), "Toko Yasuda plays"
    around = max(len(lm.encode(t.replace("{}", words)).ids) for t in TEMPLATES) - len(lm.encode(words).ids)
    assert around > 0
    longest = words
    while lm.too_long(f"{longest} the", "guitar") is None:
        longest += " the"
    assert editor.refusal(EditRequest("a", words, "Toko Yasuda", "guitar")) is None
    assert "the longest row of MEMIT" in editor.refusal(EditRequest("b", longest, "Toko Yasuda", "guitar"))


def test_a_memory_is_refused_by_methods_that_have_none():
    seq = make("memit_seq", tiny_lm("gpt2"), layers=[0, 1])
    seq.edit(edits(2))
    assert seq.footprint().host > make("memit", tiny_lm("gpt2"), layers=[0, 1]).footprint().host == 0
    with pytest.raises(ValueError, match=r"MEMIT keeps no state, but was given \['0.keys', '1.keys', 'batches'\]"):
        make("memit", tiny_lm("gpt2"), layers=[0, 1]).restore(seq.state())
    again = make("memit_seq", tiny_lm("gpt2"), layers=[0, 1])
    again.restore(seq.state())
    assert again.state().keys() == seq.state().keys()
    again.restore({})
    assert again.state() == {}

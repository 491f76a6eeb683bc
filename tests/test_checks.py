"""Checks of config values, and did-you-means."""

import pytest

from editbench import checks


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: checks.at_least(1, steps=0), "steps is 0; it must be at least 1"),
        (lambda: checks.at_least(0, ridge=float("nan")), "ridge is nan; it must be at least 0"),
        (lambda: checks.whole_number(1, edits=True), "edits is True; it must be a whole number from 1"),
        (lambda: checks.whole_number(1, edits=2.0), "edits is 2.0; it must be a whole number from 1"),
        (lambda: checks.above_zero(weight=0.0), "weight is 0.0; it must be positive"),
        (lambda: checks.one_of(("a", "b"), kind="c"), "kind is 'c'; it must be one of 'a', 'b'"),
        (
            lambda: checks.rising(layers=[1, 1]),
            r"layers is \[1, 1\]; it must be a rising list of numbers, at least one",
        ),
        (lambda: checks.rising(layers=[]), "layers is \\[\\]; it must be a rising list"),
    ],
)
def test_a_wrong_value_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_right_values_pass():
    checks.at_least(1, steps=1, limit=None)
    checks.whole_number(0, seed=0)
    checks.above_zero(weight=1e-9)
    checks.one_of(("a", "b"), kind="b")
    checks.rising(layers=[0, 1, 5])


def test_an_unknown_name_gets_the_new_the_nearest_or_all_names():
    assert checks.suggestion("checkpoint", ["external_weights", "rome"], "method") == "did you mean 'external_weights'?"
    assert checks.suggestion("romee", ["rome", "memit"], "method") == "did you mean 'rome'?"
    assert checks.suggestion("MEMIT-SEQ", ["memit", "memit_seq"], "method") == "did you mean 'memit_seq'?"
    assert checks.suggestion("ft_l", ["finetune", "rome"], "method") == "did you mean 'finetune'?"
    assert checks.suggestion("IKE", ["in_context", "rome"], "method") == "did you mean 'in_context'?"
    assert checks.suggestion("AdaLoRA", ["lora", "melo"], "method") == "did you mean 'lora'?"
    assert checks.suggestion("MEMIT-RECT", ["memit_seq", "rect"], "method") == "did you mean 'rect'?"
    assert checks.suggestion("eps", ["radius", "steps"], "setting") == "did you mean 'radius'?"
    assert checks.suggestion("eps", ["layer", "steps"], "setting") == "known: layer, steps"  # no other name is meant
    assert checks.suggestion("LR", ["learning_rate"]) == "did you mean 'learning_rate'?"
    assert checks.suggestion("zzz", ["b", "a"]) == "known: a, b" and checks.suggestion("x", []) == "known: none"
    assert str(checks.unknown("metric", "exactmatch", ["exact_match"])).endswith("; did you mean 'exact_match'?")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "it is empty"),
        ("é" * 101, "more than 200 bytes"),
        *(
            (bad, "characters that a name cannot have")
            for bad in ("../up", "a/b", "a\\b", "c:d", "a\nb", "a\x1b[2J", "\u202e")
        ),
        *((bad, "begins or ends with") for bad in (".", "..", "-rf", "~root", " a", "a.", "a ")),
        *((bad, "a device's") for bad in ("nul", "CON", "com1.txt")),
    ],
)
def test_a_name_that_is_no_folder_s_is_refused(name, why):
    with pytest.raises(ValueError, match=f"results.name is .*, which is not a folder name .*{why}"):
        checks.folder_name(**{"results.name": name})


def test_names_of_folders_pass():
    checks.folder_name(a="rome", b="counterfact-tiny-e50_b1=s0+x.y", c="ünïcode", d="console")


@pytest.mark.parametrize(("name", "known"), [("fp16", "float16"), ("half", "float16"), ("bf16", "bfloat16")])
def test_a_dtype_may_have_the_name_of_other_tools(name, known):
    assert checks.suggestion(name, ["bfloat16", "float16", "float32", "float64"], "dtype") == f"did you mean {known!r}?"

"""The chat template as a format: no BOS twice, the same on any day, a clear word where there is none."""

import pytest

from editbench.compose import compose
from editbench.datasets import from_config, load
from editbench.model.chat_template import chat_format, format_of
from editbench.records import PromptFormat
from tests.tiny_models import tiny_lm

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
ROWS = [{"prompt": "What is the capital of Iran?", "subject": "Iran", "target": "Lyon"}]


def tokenizer(template=TEMPLATE, bos=True):
    found = tiny_lm("llama", bos=bos).tokenizer
    found.chat_template = template
    return found


@pytest.mark.parametrize("bos", [True, False])
def test_the_template_stands_around_the_prompt_with_one_bos(bos):
    own = tokenizer(bos=bos)
    plain, told = chat_format(own), chat_format(own, "Be short about Iran.")
    front = "" if bos else own.bos_token  # a tokenizer that adds none gets that of the template
    assert plain == PromptFormat(f"{front}<|user|>\n", "\n<|assistant|>\n")
    assert told.prefix == f"{front}<|system|>\nBe short about Iran.\n<|user|>\n"
    assert own(plain.apply("Who?")).input_ids.count(own.bos_token_id) == 1


def test_the_answer_stands_right_behind_the_template(tmp_path):
    lm = tiny_lm("llama", bos=True)
    lm.tokenizer.chat_template = TEMPLATE
    (record,) = load("custom", ROWS, prompt_format=lm.chat_format("Be short about Iran.")).records
    prompt, target = record.request.prompt, record.request.target
    assert prompt.endswith("<|assistant|>\n") and not lm.spaced(prompt)
    ids = [*lm.encode(prompt).ids, *lm.continuation(target, lm.spaced(prompt))]
    assert lm.tokenizer.decode(ids, skip_special_tokens=True).endswith("<|assistant|>\nLyon")
    at = record.request.subject_at  # not that of the system message
    assert at is not None and prompt[at:].startswith("Iran?\n<|assistant|>")


@pytest.mark.parametrize("wanted", ["true", "Be short."])
def test_a_run_takes_the_template_of_its_model(tmp_path, wanted):
    lm = tiny_lm("llama", bos=True)
    lm.tokenizer.chat_template = TEMPLATE
    lm.tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "rows.json"
    file.write_text(str(ROWS).replace("'", '"'))
    config = compose([
        *("method=unedited", f"model.path={tmp_path}", "dataset=custom", f"dataset.path={file}"),
        *(f"dataset.chat_template={wanted}", r"dataset.prompt_format=Q: {}\nA:"),
    ])  # fmt: skip
    records = from_config(config.dataset, format_of(config.dataset, config.model))
    system = "" if wanted == "true" else "<|system|>\nBe short.\n"
    whole = f"{system}<|user|>\nQ: What is the capital of Iran?\nA:\n<|assistant|>\n"
    assert records.records[0].request.prompt == whole and records.prompt_format.plain(whole) == ROWS[0]["prompt"]


def test_no_template_is_taken_unless_it_is_asked_for(tmp_path):
    config = compose(["method=unedited"])
    assert format_of(config.dataset, config.model) is None
    with pytest.raises(ValueError, match="chat_template needs the model's tokenizer: give prompt_format="):
        load("custom", ROWS, chat_template=True)
    with pytest.raises(ValueError, match="chat_template is 3; it must be true, false or a system message"):
        load("custom", ROWS, chat_template=3)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template: the model is no chat model"),
        ("{{ raise_exception('no system message') }}", "refuses these messages: no system message"),
        ("{% for m in messages %}{{ m.content | length }}{% endfor %}", "does not put the user's words into its text"),
    ],
)
def test_a_template_that_cannot_be_used(template, message):
    with pytest.raises(ValueError, match=message):
        chat_format(tokenizer(template))


def test_a_template_with_a_date_is_the_same_on_any_day():
    assert chat_format(tokenizer("{{ date_string }} {{ messages[0].content }}")).prefix == "26 Jul 2024 "


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("strftime_now('%d %b %Y')", "26 Jul 2024"),
        ("strftime_now(format='%A, %B %-d, %y')", "Friday, July 26, 24"),
        ("strftime_now('%Y-%m-%dT%H:%M:%S, %-m %% %j')", "2024-07-26T00:00:00, 7 % 208"),
        ("'it is defined' if strftime_now is defined else ''", "it is defined"),
    ],
)
def test_a_template_that_looks_at_the_clock_is_told_the_same_on_any_day(call, told):
    own = tokenizer("  {% set day = " + call + " %}\n {{ day }}\n\n{{ messages[0].content }}\n")
    assert chat_format(own) == PromptFormat(f" {told}\n\n", "")
    in_a_macro = "{%- macro day() %}{{ " + call + " }}{% endmacro -%}\n {{ day() }}:{{ messages[0].content }}"
    assert chat_format(tokenizer(in_a_macro)).prefix == f"{told}:"

"""The tokenizer's chat template as the format of prompts: the user's turn, and the beginning of the assistant's."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from editbench.config import DatasetConfig, ModelConfig
from editbench.model.gguf_files import is_gguf
from editbench.model_places import model_place
from editbench.records import PromptFormat

_MARK = "⟦prompt⟧"
_DAY = datetime(2024, 7, 26)
_FIXED = {"date_string": _DAY.strftime("%d %b %Y"), "enable_thinking": False}
"""Values of templates that ask for them: the prompts of a run are the same on any day, and answers come at once."""
_DIRECTIVES = "aAbBcdefFHIjmMpSTuUwWxXyYzZ%"  # of strftime


def chat_format(tokenizer: Any, system: str | None = None) -> PromptFormat:
    """The tokenizer's chat template around a prompt, with a system message if one is given.

    Without the BOS if the tokenizer adds one itself. A ValueError without a template, or if it changes the prompt.
    """
    from jinja2 import TemplateError

    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "the tokenizer has no chat template: the model is no chat model; leave out dataset.chat_template, or write "
            "the format with dataset.prompt_format"
        )
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": _MARK})
    try:
        template = _clock() + tokenizer.get_chat_template()
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True, **_FIXED
        )
    except TemplateError as error:
        raise ValueError(f"the tokenizer's chat template refuses these messages: {error}") from error
    if text.count(_MARK) != 1:
        raise ValueError("the tokenizer's chat template does not put the user's words into its text as they are")
    before, _, after = text.partition(_MARK)
    bos = tokenizer.bos_token
    if bos and tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id]:
        before = before.removeprefix(bos)
    return PromptFormat(before, after.rstrip(" "))


@cache
def _clock() -> str:
    """A macro in place of the function ``strftime_now`` that transformers gives to templates: it tells a fixed time.

    A function among the values would not reach them: transformers passes plain data alone.
    """
    values = {f"%{one}": _DAY.strftime(f"%{one}") for one in _DIRECTIVES}
    values |= {f"%-{one}": _DAY.strftime(f"%{one}").lstrip("0") or "0" for one in "dHIjmMSUWy"}
    told = "".join(f"|replace({directive!r}, {value!r})" for directive, value in values.items())
    # The line end is not the template's: transformers takes it off behind a block.
    return f"{{% macro strftime_now(format) %}}{{{{ format{told} }}}}{{% endmacro %}}\n"


def format_of(dataset: DatasetConfig, model: ModelConfig) -> PromptFormat | None:
    """The chat template's format where the dataset asks for it, from the model's tokenizer alone; else None."""
    wanted = getattr(dataset.settings, "chat_template", None)
    if wanted in (None, False):
        return None
    from transformers import AutoTokenizer

    place = model_place(model.path)
    if is_gguf(place):
        tokenizer = AutoTokenizer.from_pretrained(str(Path(place).parent), gguf_file=Path(place).name)
    else:
        tokenizer = AutoTokenizer.from_pretrained(str(place), revision=model.revision)
    return chat_format(tokenizer, wanted if isinstance(wanted, str) else None)

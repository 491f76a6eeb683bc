"""The tokenizer's chat template as the format of prompts: the user's turn, and the beginning of the assistant's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from editbench.config import DatasetConfig, ModelConfig
from editbench.model.gguf_files import is_gguf
from editbench.model_places import model_place
from editbench.records import PromptFormat

_MARK = "⟦prompt⟧"
_FIXED = {"date_string": "26 Jul 2024", "enable_thinking": False}
"""Values of templates that ask for them: the prompts of a run are the same on any day, and answers come at once."""


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
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **_FIXED))
    except TemplateError as error:
        raise ValueError(f"the tokenizer's chat template refuses these messages: {error}") from error
    if text.count(_MARK) != 1:
        raise ValueError("the tokenizer's chat template does not put the user's words into its text as they are")
    before, _, after = text.partition(_MARK)
    bos = tokenizer.bos_token
    if bos and tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id]:
        before = before.removeprefix(bos)
    return PromptFormat(before, after.rstrip(" "))


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

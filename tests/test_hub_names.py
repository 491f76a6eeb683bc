"""Paths, hub ids and addresses in the place of a name get a hint."""

import pytest

from editbench.compose import check
from editbench.hub_names import hub_id, is_address


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("zjunlp/KnowEdit", "zjunlp/KnowEdit"),
        ("https://huggingface.co/datasets/zjunlp/KnowEdit", "zjunlp/KnowEdit"),
        ("https:/huggingface.co/zjunlp/KnowEdit/tree/main/", "zjunlp/KnowEdit"),
        ("hf://datasets/zjunlp/KnowEdit", "zjunlp/KnowEdit"),
        ("https://huggingface.co/gpt2", "gpt2"),
        ("https://example.org/a/b", None),
        ("data/edits.json", None),
        ("counterfact", None),
    ],
)
def test_hub_ids(text, name):
    assert hub_id(text) == name


def test_addresses():
    assert is_address("http://x.org/a") and not is_address("x.org/a")


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("dataset=zjunlp/KnowEdit", "dataset=knowedit dataset.path=hub:zjunlp/KnowEdit"),
        ("dataset=https://huggingface.co/datasets/a/b", "dataset=custom dataset.path=hub:a/b"),
        ("dataset=https://example.org/x.json", "a web address is not read: download it, and give dataset.path=PATH"),
        ("dataset=my/edits.json", "dataset=custom dataset.path=my/edits.json"),
        ("model=openai-community/gpt2-xl", "model.path=openai-community/gpt2-xl"),
        ("model=https://huggingface.co/Qwen/Qwen2.5-7B", "model.path=Qwen/Qwen2.5-7B"),
    ],
)
def test_the_command_says_what_to_write(override, hint):
    with pytest.raises(ValueError, match="unknown .*; .* given by |unknown .*; a web address") as caught:
        check([override])
    assert hint in str(caught.value)

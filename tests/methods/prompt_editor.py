"""An in-context editor in ten lines: kind "prompt", with the edits before the prompt and the weights as they are."""

import json
from dataclasses import dataclass

import torch

from editbench import Ledger, Resources
from editbench.editor import Editor


@dataclass
class InContextConfig:
    """No settings."""


class InContext(Editor[InContextConfig]):
    """Puts "Fact: <prompt> <target>. " of the edits in the ledger before the prompt."""

    title, kind, config_class = "in context", "prompt", InContextConfig

    def write(self, batch, transaction, result):
        plain = self.resources.prompt_format.plain
        self.facts = {**self.known(), **{r.id: f"Fact: {plain(r.prompt)} {r.target}. " for r in batch}}

    def known(self):
        return {id: fact for id, fact in getattr(self, "facts", {}).items() if id in self.ledger.edited_ids}

    def transform_prompt(self, prompt):
        return "".join(self.known().values()) + prompt

    def state(self):
        return {"facts": torch.tensor(list(json.dumps(self.known()).encode()), dtype=torch.uint8)}

    def restore(self, state):
        self.facts = json.loads(bytes(state["facts"].tolist())) if state else {}


def in_context(lm, prompt_format=None, kind=InContext, ledger=None):
    """The editor, with a prompt format if one is given."""
    resources = Resources(**({"prompt_format": prompt_format} if prompt_format is not None else {}))
    return kind(lm, ledger if ledger is not None else Ledger(lm), InContextConfig(), resources)

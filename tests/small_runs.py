"""Requests, settings and set-ups of small runs that several test files share."""

import pytest
import torch

from editbench import EditRequest, Resources, make_editor
from tests.tiny_models import LINES

REQUESTS = [
    EditRequest("a", "The mother tongue of Danielle Darrieux is", "Danielle Darrieux", "English", "French"),
    EditRequest("b", "Toko Yasuda plays the", "Toko Yasuda", "guitar, they say", "guitar"),
    EditRequest("c", "The twin city of Lyon is", "Lyon", "Rome", "Manila"),
    EditRequest("d", "Marcel Maupoil lives in", "Marcel Maupoil", "London", "Paris"),
]
PROMPTS = [r.prompt for r in REQUESTS] + ["Anaal Nathrakh was created in"]
TEMPLATES = ["{}", "They say. {}", "In Spain, {}"]
_VALUE = {"steps": 4, "learning_rate": 0.3}
_MEMIT = {"layers": [0, 1], "covariance_weight": 10.0, "ridge": 0.05, **_VALUE}
SETTINGS = {
    "unedited": {},
    "finetune": {"layer": 1, "steps": 3, "learning_rate": 1e-2, "norm_bound": 1e-2},
    "rome": {"layer": 1, "ridge": 0.05, **_VALUE},
    "memit": _MEMIT,
    "memit_seq": _MEMIT,
    "alphaedit": {"layers": [0, 1], "nullspace_threshold": 1.0, "l2": 0.5, **_VALUE},
    "rect": _MEMIT,
    "prune": _MEMIT,
    "emmet": _MEMIT,
    "pmet": _MEMIT,
    "nse": {**_MEMIT, "alpha": 0.0, "upper_bound": 1e9, "max_iterations": 3},
    "grace": {"layer": 1, "projection": "second", "steps": 5},
    "in_context": {"layer": 1},
    "retrieval": {"layer": 1, "threshold": 0.5},
    "wise": {
        **{"layer": 1, "steps": 10, "learning_rate": 0.2, "alpha": 0.1, "beta": 0.5, "gamma": 0.2},
        **{"save_every": 2, "merge_every": 4, "irrelevant": ["Rivers"]},
    },
    "melo": {"layers": [0, 1, 2], "projection": "second", "steps": 5, "scale": 4.0, "learning_rate": 0.02},
    "defer": {"layer": 1, "steps": 10, "learning_rate": 2e-2, "irrelevant": ["Rivers"], "irrelevant_prompts": 2},
    "ultraedit": {"layers": [0, 1, 2], "learning_rate": 1e-2},
    "mend": {"layers": [0, 1], "network": "untrained", "rank": 2, "learning_rate": 1e-2},
    "rledit": {"layers": [0, 1, 2], "network": "untrained", "rank": 2, "learning_rate": 1e-2},
    "lora": {"rank": 2, "steps": 4, "learning_rate": 1e-2},
    "scen": {"layer": 1, "expert_steps": 3, "neuron_steps": 40, "learning_rate": 2e-2},
}
"""Settings of each method for tiny models of three layers."""
WRITERS = [method for method in SETTINGS if method != "unedited"]
STREAM_METRICS = "protocol.metrics=[exact_match,agreement,nll_contrast]"
"""Of runs that are about the stream: quick, and enough for a headline."""


FAST = ("unedited", "finetune", "rome", "memit", "nse", "scen", "grace", "lora", "retrieval")
"""Methods of all kinds; with the others, which are akin to one of them, a test of every method is slow."""


KINDS = ("finetune", "nse", "scen")
"""One for each kind of storage: weights alone, weights and keys, experts in the ledger. For tests of whole runs."""


def each(methods, fast=FAST):
    """Parameters of a test: every method, those that are not ``fast`` with the mark "slow"."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in methods]


def overrides_of(method):
    """The method and :data:`SETTINGS` as on the command line, and given templates."""
    settings = [f"method.{name}={value}".replace(" ", "") for name, value in SETTINGS[method].items()]
    templates = ",".join(f"'{template}'" for template in TEMPLATES[:2])
    return [f"method={method}", *settings, f"model.templates=[{templates}]", STREAM_METRICS]


def architectures(names, fast=("gpt2", "llama")):
    """Parameters of a test: every architecture, and only the ``fast`` ones without the mark "slow"."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


def covariance(lm, seed=0):
    """A covariance (d_ff, d_ff) for each layer, of random numbers."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for layer in range(lm.n_layers):
        x = torch.randn(lm.d_ff(layer), 200, generator=generator, dtype=torch.float64)
        found[layer] = x @ x.T / 200
    return found


def editor_of(method, lm, ledger=None, **settings):
    """An editor with :data:`SETTINGS`, given templates and a given covariance."""
    resources = Resources(texts=LINES, templates=TEMPLATES, covariance=covariance(lm, seed=3), seed=1)
    return make_editor(method, lm, ledger=ledger, resources=resources, **{**SETTINGS[method], **settings})


def weights(lm):
    return {k: v.clone() for k, v in lm.model.state_dict().items()}


def same(a, b):
    """Equal names, dtypes and bits."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def logits(editor, prompts=PROMPTS):
    """Logits (prompts, V) behind each prompt, by the edited model, with all that the editor does while it answers."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([editor.lm.encode(editor.asked(prompt)).ids])
        with torch.no_grad(), editor.answering([ids.shape[1] - 1]):
            found.append(editor.lm.model(input_ids=ids).logits[0, -1].clone())
    return torch.stack(found)


def save_model(lm, folder):
    """Save model and tokenizer as a user has them; returns the folder."""
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def counterfact_rows(count=6):
    """CounterFact-like rows whose words the tiny tokenizer knows."""
    languages = ["French", "Polish", "English", "Russian", "Italian", "Portuguese"]
    for i in range(count):
        yield {
            "case_id": i,
            "prompt": f"The mother tongue of Person{i} Maupoil is",
            "subject": f"Person{i} Maupoil",
            "target_new": languages[i % 6],
            "ground_truth": languages[(i + 1) % 6],
            "rephrase_prompt": f"Person{i} Maupoil speaks",
            "locality_prompt": f"The mother tongue of Toko{i} Yasuda is",
            "locality_ground_truth": languages[(i + 1) % 6],
        }

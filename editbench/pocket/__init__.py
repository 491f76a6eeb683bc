"""The embedded world and the two models that know it: a benchmark that runs on a laptop's CPU with nothing to download.

The *world* (:mod:`~editbench.pocket.world`) is invented: persons, companies and places, each with three facts that can
be said in six statements and asked in three questions. Because it is invented, everything about it is known: which
wording a model has never seen for a fact, which subjects share an answer, which subjects no edit ever touches.
:mod:`~editbench.pocket.dataset_files` tells the world as raw records in the published schemas of CounterFact, ZsRE and
Hallucination, so the ordinary dataset loaders read it.

The *models* are a Llama and a GPT-2 that were trained on nothing but this world
(:mod:`~editbench.pocket.train_models`) and answer it almost without a mistake, also in wordings that were held out.
They are ordinary Hugging Face checkpoints in half precision; edit them in float32.
"""

from __future__ import annotations

from pathlib import Path

MODELS = {"pocket": "llama", "pocket-llama": "llama", "pocket-gpt2": "gpt2"}
"""Public model names and the folder of ``models/`` that each one stands for."""


def model_path(name: str) -> Path:
    """Folder of a shipped model, to be given to ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        ValueError: If there is no shipped model of that name.
    """
    if name not in MODELS:
        raise ValueError(f"no pocket model is called {name!r}; there are {', '.join(MODELS)}")
    return Path(__file__).parent / "models" / MODELS[name]

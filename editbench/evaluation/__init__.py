"""Evaluation: how a model, edited or not, answers records' probes, and how likely texts are to it.

packing.py      questions to tensors: tokenise, merge, batch, lay out rows that share a prompt
masks.py        attention masks for such rows, and which models take them
forward.py      where the model runs on given answers: `Query` to `Answer`
generation.py   the other place: what it says by itself
wording.py      what counts as the same answer in generated text
free texts.py       free text: fluency, and likeness to references
questions.py    which questions a record puts, and which answer is right
metrics.py      answers to numbers, by name and version
perplexity.py   texts to perplexities
drift.py        how far hidden states and weights have moved
baseline.py     the unedited model's answers, cached
ability.py      what else a model can do: what a test is, and says
harness.py      lm-eval's tasks as such tests; an extra
evaluator.py    all of it together: `Evaluator` makes rows for the results
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from editbench.evaluation.evaluator import Evaluator
    from editbench.evaluation.metrics import Metric, get_metric, list_metrics
    from editbench.evaluation.unedited import UneditedAnswers, ask_unedited
    from editbench.model.generation import Generation
    from editbench.model.likelihood import Answer, Query, answer

_PUBLIC = {
    "Answer": "editbench.model.likelihood",
    "UneditedAnswers": "editbench.evaluation.unedited",
    "Evaluator": "editbench.evaluation.evaluator",
    "Generation": "editbench.model.generation",
    "Query": "editbench.model.likelihood",
    "Metric": "editbench.evaluation.metrics",
    "answer": "editbench.model.likelihood",
    "ask_unedited": "editbench.evaluation.unedited",
    "get_metric": "editbench.evaluation.metrics",
    "list_metrics": "editbench.evaluation.metrics",
}
__all__ = ["Answer", "UneditedAnswers", "Evaluator", "Generation", "Query", "Metric", "answer", "ask_unedited"]
__all__ += ["get_metric", "list_metrics"]


def __getattr__(name: str) -> Any:
    """Import on first use: the metrics can be listed without torch."""
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'editbench.evaluation' has no attribute {name!r}")

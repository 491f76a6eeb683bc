"""The editors beside their plain oracles: CPU-seconds per edit, one thread, in one process.

Random-weight Llama and GPT-2 of hidden size 512, 12 layers, vocabulary 8,000; 20 steps; batches of 20 edits with 6
templates (ROME: one edit, 21 templates). The oracle (``tests/oracles/locate.py``) runs the whole model, one edit at a
time, and keeps nothing; it gets fewer edits, and its linear systems, which it solves once a batch, are timed apart.
What is made once for a stream (templates, covariance, their factors) is not counted, on either side.

    python -m benchmarks.bench_edit [llama|gpt2] [rome|memit|nse|keys|stages]
"""

import json
import random
import sys
import time

import torch
import transformers

from benchmarks.peak import Peak
from editbench import EditRequest, LanguageModel, Resources, make_editor
from editbench.locate_then_edit.covariance import compute_covariance
from editbench.locate_then_edit.multi_layer import EditKeys
from editbench.locate_then_edit.shifted_forward import AT_LAYER
from editbench.locate_then_edit.values import optimise_values
from tests.oracles import locate as oracle
from tests.tiny_models import tiny_tokenizer

BATCH, STEPS, LAYERS, ORACLE_EDITS = 20, 20, [3, 4, 5, 6, 7], 3
REPEATS = 2
"""The machine may be shared: each side is run this often, and the fastest run counts."""
TARGETS = {"rome": 8.0, "memit": 10.0, "nse": 10.0, "keys": 10.0, "covariance": 4.5}
MODELS = {
    "llama": (
        transformers.LlamaConfig,
        {
            "hidden_size": 512,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "intermediate_size": 1376,
            "max_position_embeddings": 512,
        },
    ),
    "gpt2": (transformers.GPT2Config, {"n_embd": 512, "n_layer": 12, "n_head": 8, "n_positions": 512}),
}
_SYLLABLES = ("ka", "lo", "mi", "ren", "ta", "vos", "del", "qui", "sar", "tun", "bel", "fro")
_RELATIONS = (
    "The mother tongue of {} is",
    "{} was born in",
    "{}, who works for",
    "The capital of {} is",
    "What does {} play? They play",
    "The headquarters of {} is located in",
)
_TARGETS = ("London", "French", "the guitar", "Microsoft", "Paris", "basketball")
_VALUE = {"steps": STEPS, "learning_rate": 0.1, "stop_loss": 0.0}


def measure(models=tuple(MODELS), kinds=tuple(TARGETS)):
    """One row for each model and kind of work: seconds per edit (per text for stages) of both ways, ratio, memory."""
    return list(rows(models, kinds))


def rows(models, kinds):
    """The rows of :func:`measure`, one by one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for model in models:
            yield from _measure_model(model, kinds)
    finally:
        torch.set_num_threads(threads)


def _measure_model(model, kinds):
    requests, texts = _requests(BATCH), _texts(40)
    lm = _lm(model)
    work = {"rome": _rome, "memit": _memit, "nse": _nse, "keys": _keys, "covariance": _covariance}
    for kind in kinds:
        fast, slow, difference = work[kind](lm, requests, texts)
        yield {
            "model": model,
            "prompt_tokens": sum(len(lm.encode(r.prompt).ids) for r in requests) / BATCH,
            "what": kind,
            "seconds": fast[0],
            "oracle_seconds": slow[0],
            "ratio": slow[0] / fast[0],
            "target": TARGETS[kind],
            "peak_mb": fast[1],
            "oracle_peak_mb": slow[1],
            "relative_difference": difference,
        }


def _rome(lm, requests, texts):
    some, editor, name = requests[:2], _editor("rome", lm, texts, 21, layer=LAYERS[2]), lm.mlp_out_name(LAYERS[2])
    editor.prepare(some)
    fast = _timed(lambda: [editor.edit([r]) for r in some], len(some), editor.ledger.rollback)
    for request in some:
        editor.edit([request])
    found = editor.ledger.delta(name)
    editor.ledger.rollback()
    before, inverse = lm.weight(name).clone(), torch.linalg.inv(editor.resources.covariance[LAYERS[2]])
    work = lambda: [oracle.rome(lm, r, editor.templates, inverse, editor.config) for r in some]  # noqa: E731
    slow = _timed(work, len(some), lambda: lm.weight(name).copy_(before))
    work()
    wanted = lm.weight(name) - before
    lm.weight(name).copy_(before)
    return fast, slow, _relative(found, wanted)


def _memit(lm, requests, texts):
    editor = _editor("memit", lm, texts, 6, layers=LAYERS)
    editor.prepare(requests)
    values = optimise_values(lm, requests[:ORACLE_EDITS], editor.templates, LAYERS[-1], AT_LAYER, editor.config)
    fast = _timed(lambda: editor.edit(requests), BATCH, editor.ledger.rollback)
    slow, targets = _spread_oracle(lm, requests, editor, rounds=1, memory=False)
    return fast, slow, _relative(torch.stack([v.target for v in values]), targets)


def _nse(lm, requests, texts):
    """Two rounds, in which every edit takes part."""
    settings = {"alpha": 0.0, "upper_bound": 1e9, "max_iterations": 3, "neuron_threshold": 0.8}
    editor = _editor("nse", lm, texts, 6, layers=LAYERS, **settings)
    editor.prepare(requests)
    found = torch.stack([editor.values[r].target for r in requests[:ORACLE_EDITS]])

    def forget():
        editor.ledger.rollback()
        editor.values.clear()

    forget()
    fast = _timed(lambda: (editor.prepare(requests), editor.edit(requests)), BATCH, forget)
    slow, targets = _spread_oracle(lm, requests, editor, rounds=2, memory=True)
    return fast, slow, _relative(found, targets)


def _keys(lm, requests, texts):
    """Keys of all edited layers."""
    templates = _templates(lm, texts, 6)
    fast = _timed(lambda: EditKeys.of(lm, requests, templates, LAYERS).keys(), BATCH)
    some = requests[:ORACLE_EDITS]
    slow = _timed(lambda: [oracle.keys(lm, some, templates, layer) for layer in LAYERS], ORACLE_EDITS)
    found = EditKeys.of(lm, some, templates, LAYERS).keys()
    return fast, slow, _relative(found[LAYERS[-1]], oracle.keys(lm, some, templates, LAYERS[-1]))


def _covariance(lm, requests, texts):
    """Covariance of five layers."""
    fast = _timed(lambda: compute_covariance(lm, texts, LAYERS), len(texts))
    slow = _timed(lambda: [oracle.covariance(lm, texts, layer) for layer in LAYERS], len(texts))
    found = compute_covariance(lm, texts[:20], LAYERS)[LAYERS[-1]]
    return fast, slow, _relative(found, oracle.covariance(lm, texts[:20], LAYERS[-1]))


def _spread_oracle(lm, requests, editor, *, rounds, memory):
    """Seconds per edit and memory of the plain way, and the values of the first edits."""
    some, templates, config = requests[:ORACLE_EDITS], editor.templates, editor.config

    def find():
        return [oracle.value(lm, r, templates, LAYERS[-1], AT_LAYER, config) for r in some]

    def measure_all():
        for layer in LAYERS * rounds:
            oracle.keys(lm, some, templates, layer)
            oracle.hidden(lm, some, LAYERS[-1])
        for layer in LAYERS if memory else []:
            oracle.keys(lm, some, templates, layer)

    def solve():
        keys = torch.randn(lm.d_ff(LAYERS[0]), BATCH, dtype=torch.float64)
        for layer in LAYERS * rounds:
            torch.linalg.solve(editor.resources.covariance[layer] + keys @ keys.T, keys)

    found = find()
    parts = [_timed(find, ORACLE_EDITS), _timed(measure_all, ORACLE_EDITS), _timed(solve, BATCH)]
    targets = torch.stack([target for *_, target in found])
    peaks = [peak for _, peak in parts if peak is not None]
    return (sum(seconds for seconds, _ in parts), max(peaks, default=None)), targets


def _editor(method, lm, texts, count, **settings):
    layers = settings.get("layers", [settings.get("layer")])
    resources = Resources(templates=_templates(lm, texts, count), covariance=_some_covariances(lm, layers))
    return make_editor(method, lm, hparams="defaults", resources=resources, **_VALUE, **settings)


def _some_covariances(lm, layers):
    generator = torch.Generator().manual_seed(0)
    covariance = {}
    for layer in layers:
        x = torch.randn(lm.d_ff(layer), 2 * lm.d_ff(layer), generator=generator, dtype=torch.float64)
        covariance[layer] = x @ x.T / x.shape[1]
    return covariance


def _timed(work, count, undo=lambda: None):
    """CPU-seconds, the least of a few runs, per ``count``; and the most memory (MB above what was there before)."""
    seconds, most = [], 0
    for _ in range(REPEATS):
        with Peak() as peak:
            begun = time.process_time()
            work()
            seconds.append(time.process_time() - begun)
        most = peak.megabytes if peak.megabytes is None else max(most, peak.megabytes)
        undo()
    return min(seconds) / count, most


def _relative(found, wanted):
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def _words(rng, count):
    return " ".join("".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3))).capitalize() for _ in range(count))


def _requests(count):
    rng, requests = random.Random(0), []
    for i in range(count):
        relation, subject = _RELATIONS[i % len(_RELATIONS)], _words(rng, rng.randint(2, 3))
        requests.append(EditRequest(str(i), relation.format(subject), subject, rng.choice(_TARGETS)))
    return requests


def _texts(count):
    rng = random.Random(1)
    return [f"{_words(rng, rng.randint(10, 60))}." for _ in range(count)]


def _templates(lm, texts, count):
    """ "{}" and sentences as the methods sample them: of ten tokens, for ROME half of them of five."""
    lengths = [5, 10] * ((count - 1) // 2) if count > 10 else [10] * (count - 1)
    starts = [lm.encode(text).ids[1 : length + 1] for text, length in zip(texts, lengths, strict=False)]
    return ["{}", *(lm.tokenizer.decode(start).strip() + ". {}" for start in starts)]


def _lm(model):
    """Words of relations and targets are one token each, as in a large vocabulary; names are one token a syllable."""
    config_class, settings = MODELS[model]
    torch.manual_seed(0)
    network = transformers.AutoModelForCausalLM.from_config(config_class(vocab_size=8000, **settings))
    words = [relation.format("x") for relation in _RELATIONS] + [" " + target for target in _TARGETS]
    lines = words * 9 + [f"{s.capitalize()} {s.capitalize()} x{s}x" for s in _SYLLABLES] * 9
    return LanguageModel(network, tiny_tokenizer(bos=model == "llama", lines=lines, vocabulary=600), name=model)


if __name__ == "__main__":
    chosen = sys.argv[1:]
    models = [m for m in MODELS if m in chosen] or list(MODELS)
    kinds = [k for k in TARGETS if k in chosen] or list(TARGETS)
    for row in rows(models, kinds):
        print(json.dumps(row), flush=True)

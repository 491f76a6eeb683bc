"""The methods beside the published code, by its seconds as measured elsewhere (``published_speed.json``).

    python -m benchmarks.bench_published [rome memit nse scen_expert_one …]
    python -m benchmarks.bench_published --operations rome

A random-weight Llama of SmolLM2-135M's shape, and records as long in tokens as CounterFact's are there: a subject of
four tokens, one to three words behind it, a target of one token. Machines differ: the published seconds are scaled by
one product that is timed before and after every row, in the same process, one thread. What is made once for a stream
(templates, covariance) is counted on neither side. ``--operations`` shows where a row's time goes, by torch's profiler:
matrix products by their rows and weights with the GFLOP/s that they reach, and the other operations.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.peak import Peak
from editbench import EditRequest, LanguageModel, Resources, make_editor
from editbench.model.generation import generate
from editbench.model.likelihood import Query, score_targets

PUBLISHED = json.loads((Path(__file__).parent / "published_speed.json").read_text(encoding="utf-8"))
ROWS = PUBLISHED["rows"]
BEHIND = ("w1", "w2 w3", "w2 w4 w5", "w6 w7", "w8 w9 w3")
BEFORE = ("w10 w11 w12 w13", "", "w14 w15 w16", "w17 w18", "")


def measure(names=tuple(ROWS)):
    """A row for each name: seconds, the published code's on this machine, their ratio, the aim, memory."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in names:
            yield _row(name)
    finally:
        torch.set_num_threads(threads)


def product_gflops(rows=64, repeats=200):
    """GFLOP/s of the reference product: the best of several runs."""
    d, d_ff = PUBLISHED["model"]["hidden"], PUBLISHED["model"]["mlp"]
    x, weight = torch.randn(rows, d), torch.randn(d_ff, d)
    best = float("inf")
    for _ in range(repeats):
        begun = time.process_time()
        torch.nn.functional.linear(x, weight)
        best = min(best, time.process_time() - begun)
    return 2 * rows * d * d_ff / best / 1e9


def operations(name, shown=14):
    """A table in Markdown of a row's operations: calls, seconds and GFLOP for each of its units, GFLOP/s."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    work, count, again = _work(name, edits=1 if name == "rome" else None)  # the profiler is slow with many events
    work()
    again()
    begun = time.process_time()
    work()
    whole = (time.process_time() - begun) / count
    again()
    with torch.profiler.profile(record_shapes=True, with_flops=True) as profile:
        work()
    torch.set_num_threads(threads)
    found = {}
    for event in profile.key_averages(group_by_input_shape=True):
        label, of = _label(event), (event.count, event.self_cpu_time_total / 1e6, (event.flops or 0) / 1e9)
        found[label] = [a + b / count for a, b in zip(found.get(label, (0, 0, 0)), of, strict=True)]
    ranked = sorted(found.items(), key=lambda item: -item[1][1])
    rest = [sum(column) for column in zip(*(values for _, values in ranked[shown:]), strict=True)]
    seen = sum(seconds for _, (_, seconds, _) in ranked)
    lines = ["| operation | calls | s | share | GFLOP | GFLOP/s |", "|---|---|---|---|---|---|"]
    for label, (calls, seconds, flop) in [*ranked[:shown], ("the rest", rest)]:
        rate = (f"{flop:.1f}", f"{flop / seconds:.0f}") if label.startswith("product") else ("", "")
        lines.append(
            f"| {label} | {calls:.0f} | {seconds:.2f} | {100 * seconds / seen:.0f} % | {rate[0]} | {rate[1]} |"
        )
    products = [
        sum(column) for column in zip(*(found[label] for label in found if label.startswith("product")), strict=True)
    ]
    words = f"{seen:.2f} s of operations under the profiler; {whole:.2f} CPU-s without it"
    of_products = f"products {products[1]:.2f} s, {products[2]:.0f} GFLOP, {products[2] / products[1]:.0f} GFLOP/s"
    return "\n".join([*lines, "", f"{words}; {of_products}; the reference product {product_gflops():.0f} GFLOP/s"])


def _label(event):
    """What an operation counts as: a product by its rows and weight, or its name."""
    shapes = [shape for shape in event.input_shapes if len(shape) == 2]
    if event.key in ("aten::mm", "aten::addmm") and len(shapes) >= 2:
        (rows, inner), (_, out) = shapes[-2:]
        return f"product, {rows} rows, {inner} to {out}" if rows < 1000 else f"product, {rows}×{inner} by {inner}×{out}"
    return f"`{event.key.removeprefix('aten::')}`"


def _work(name, edits=None):
    """(the row's work, its units, what makes it possible again)."""
    of = {"rome": _edits, "memit": _edits, "nse": _edits, "scen": _experts}.get(name.partition("_")[0], _forward)
    return of(_lm(), name, ROWS[name]["settings"] | ({} if edits is None else {"batch": edits}))


def _row(name):
    work, count, again = _work(name)
    before = product_gflops()
    work()  # warm-up
    again()
    with Peak() as peak:
        begun = time.process_time()
        work()
        seconds = (time.process_time() - begun) / count
    speed = (before + product_gflops()) / 2
    published = ROWS[name]["seconds"] * PUBLISHED["reference_product"]["gflops"] / speed
    row = {"what": name, "unit": ROWS[name]["unit"], "seconds": seconds, "published_seconds": published}
    return row | {"ratio": published / seconds, "aim": ROWS[name]["aim"], "gflops": speed, "peak_mb": peak.megabytes}


def _edits(lm, name, settings):
    layers = settings.get("layers", [settings.get("layer")])
    d_ff = PUBLISHED["model"]["mlp"]
    factor = torch.randn(d_ff, d_ff + 100, generator=torch.Generator().manual_seed(0))
    covariance = dict.fromkeys(layers, factor @ factor.T / d_ff)
    rng = random.Random(0)
    sampled = [" ".join(_word(rng) for _ in range(5 + 5 * (i % 2))) + " . {}" for i in range(settings["templates"] - 1)]
    resources = Resources(covariance=covariance, templates=["{}", *sampled])
    where = {"layer": layers[0]} if name == "rome" else {"layers": layers}
    options = {"steps": settings["steps"], "stop_loss": 0.0, **where}
    if name == "nse":
        options |= {"alpha": 0.0, "upper_bound": 1e9, "max_iterations": settings["rounds"] + 1}
    editor = make_editor(name, lm, hparams="defaults", resources=resources, **options)
    requests = _requests(settings.get("batch", 5), rng)
    editor.prepare([])
    size = 1 if name == "rome" else len(requests)

    def work():
        for start in range(0, len(requests), size):
            editor.edit(requests[start : start + size])

    def again():
        editor.ledger.rollback()
        if name == "nse":
            editor.values = editor.memory = None
            editor.prepare([])

    return work, len(requests), again


def _experts(lm, name, settings):
    requests = _requests(8, random.Random(0))
    size = 1 if name.endswith("one") else 4
    options = {"layer": settings["layer"], "expert_steps": settings["steps"], "learning_rate": 1e-4}
    editor = make_editor("scen", lm, hparams="defaults", **options)
    editor.prepare(requests)

    def work():
        for start in range(0, len(requests), size):
            editor.edit(requests[start : start + size])

    return work, len(requests), editor.ledger.rollback


def _forward(lm, name, settings):
    rng = random.Random(0)
    if name.startswith("evaluation"):
        records = [_record(settings["prompts"], rng) for _ in range(8)]
        queries = records if name.endswith("one") else [[query for record in records for query in record]]
        return lambda: [score_targets(lm, some) for some in queries], len(records), lambda: None
    requests = _requests(8, rng)
    editor = make_editor("scen", lm, hparams="defaults", layer=19, expert_steps=1, theta=0.0)
    editor.edit(requests[: settings["experts"]])
    prompts, together = [r.prompt for r in requests], 1 if name.endswith("one") else 4
    groups = [prompts[i : i + together] for i in range(0, len(prompts), together)]
    limit = settings["tokens"]
    return lambda: [generate(lm, g, [limit] * len(g), editor=editor) for g in groups], len(prompts), lambda: None


def _requests(count, rng):
    made = []
    for i in range(count):
        subject = " ".join(_word(rng) for _ in range(4))
        prompt = f"{BEFORE[i % 5]} {subject} {BEHIND[i % 5]}".strip()
        made.append(EditRequest(str(i), prompt, subject, _word(rng)))
    return made


def _record(prompts, rng):
    """A rewrite, two paraphrases behind a sentence, and neighbours that share its words before and behind."""
    before, behind, targets = rng.choice(BEFORE), rng.choice(BEHIND), (_word(rng), _word(rng))

    def prompt(lead=""):
        return f"{lead} {before} {' '.join(_word(rng) for _ in range(4))} {behind}".strip()

    leads = [" ".join(_word(rng) for _ in range(8)) + " ." for _ in range(2)]
    return [Query(text, targets) for text in (prompt(), *map(prompt, leads), *(prompt() for _ in range(prompts - 3)))]


def _word(rng):
    return f"w{rng.randrange(100, 40_000)}"


def _lm():
    shape = PUBLISHED["model"]
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=shape["vocabulary"],
            hidden_size=shape["hidden"],
            intermediate_size=shape["mlp"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            num_key_value_heads=shape["kv_heads"],
            tie_word_embeddings=True,
        )
    )
    words = {word: i for i, word in enumerate(["<end>", ".", "is", "a", *(f"w{i}" for i in range(49_000))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    return LanguageModel(model, fast, name="smollm2-135m-shape")


def main():
    """Print rows as they come, or the operations of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *ROWS])
    parser.add_argument("--operations", choices=list(ROWS))
    options = parser.parse_args()
    if options.operations:
        print(operations(options.operations))
        return
    for row in measure(options.names or tuple(ROWS)):
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()

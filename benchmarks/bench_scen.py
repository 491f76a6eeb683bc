"""SCEN beside its plain oracle (``tests/oracles/scen.py``), in one process.

- ``neurons``: seconds per neuron from cached x (stage 1 has run the prompt), 10, 100 and 1,000 negatives; seconds of
  a pass for x; the oracle runs the whole model on all prompts at every step (10 negatives only).
- ``experts``: seconds per expert of 10 steps; the oracle runs the whole model, one edit at a time.
- ``generate``: seconds per token with a bank of 1,000, against the unedited model: nothing fires; and a batch of 16
  prompts with 16 different experts, dense and low-rank.
- ``sizes``: experts of a 4096 x 11008 projection (random weights): bytes and error of each store.
- ``pocket``: 100 edits of the embedded world: reliability, generality, false firing and bytes, for each store and for
  the options beyond the paper.

    python -m benchmarks.bench_scen [neurons] [experts] [generate] [sizes] [pocket] [--shape llama-2-7b] [--device cuda]

``--shape small`` (the default) is a random Llama of hidden size 512 with 12 layers; SCEN edits layer 7 of 12 there, and
20 of 32 in ``llama-2-7b`` (bfloat16).
"""

import argparse
import json
import random
import statistics
import time

import torch
import transformers

from editbench import EditRequest, LanguageModel, make_editor
from editbench.memory_based.compression import dense, low_rank, quantised
from editbench.memory_based.projection import SECOND, Projection
from editbench.memory_based.target_rows import prompt_inputs
from editbench.methods.scen import SCEN
from editbench.methods.scen.expert_files import Expert
from editbench.methods.scen.training import (
    ExpertBatch,
    initial_neuron,
    neuron_input,
    train_experts,
    train_neurons,
)
from editbench.model_places import shipped_model_path
from editbench.pocket import dataset_files
from tests.oracles import scen as oracle
from tests.tiny_models import tiny_tokenizer

SHAPES = {
    "small": ({"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 1376}, 7),
    "llama-2-7b": (
        {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 11008},
        20,
    ),
    "one-layer": (
        {"hidden_size": 4096, "num_hidden_layers": 1, "num_attention_heads": 32, "intermediate_size": 11008},
        0,
    ),
}
HISTORY, BATCH, NEW_TOKENS, REPEATS = 1000, 16, 24, 5
_SYLLABLES = ("ka", "lo", "mi", "ren", "ta", "vos", "del", "qui", "sar", "tun", "bel", "fro")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["neurons", "experts", "generate", "sizes", "pocket"])
    parser.add_argument("--shape", choices=("small", "llama-2-7b"), default="small")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    work = {"neurons": neurons, "experts": experts, "generate": generate, "sizes": sizes, "pocket": pocket}
    for part in options.parts:
        for row in work[part](options.shape, options.device):
            print(json.dumps({"what": part, **row}), flush=True)


# -- the parts ---------------------------------------------------------------------------------------------------------


def neurons(shape, device):
    lm, layer = random_lm(shape, device)
    prompts = [lm.encode(request.prompt).ids for request in requests(HISTORY + 1)]
    start = initial_neuron(lm.d_ff(layer), 0, "0")[None].to(device)
    at = Projection.of(lm, layer, SECOND)
    pool = torch.cat([prompt_inputs(lm, at, prompts[i : i + 50]) for i in range(1, HISTORY + 1, 50)])
    pool = neuron_input(pool, False)  # (1000, d_ff), cached for good

    def own():
        return neuron_input(prompt_inputs(lm, at, prompts[:1]), False)

    def ours(history, x):
        allowed = torch.ones((1, history), dtype=torch.bool, device=device)
        return train_neurons(start, x, [pool[:history]], allowed, torch.tensor([1e-2], device=device), 20)[0]

    slow, (wanted, _) = timed(lambda: oracle.train_neuron(lm, layer, start[0], prompts[0], prompts[1:11], 20, 1e-2), 1)
    for history in (10, 100, HISTORY):
        pass_seconds, x = timed(own)
        fast, found = timed(lambda n=history, x=x: ours(n, x))
        row = {"negatives": history, "seconds": fast, "seconds_for_x": pass_seconds}
        if history == 10:
            row |= {"oracle_seconds": slow, "ratio": slow / fast, "relative_difference": relative(found[0], wanted)}
        yield row


def experts(shape, device):
    lm, layer = random_lm(shape, device)
    rows = [row_of(lm, request) for request in requests(4)]
    slow, (wanted, _) = timed(lambda: oracle.train_expert(lm, layer, *rows[0], 10, 1e-3), 2)
    for at_once in (1, 4):
        fast, (found, _) = timed(lambda n=at_once: train_experts(ExpertBatch(lm, layer, rows[:n]), 10, 1e-3), 2)
        difference = relative(found[0], wanted)
        fast /= at_once
        yield {
            "edits_at_once": at_once,
            "seconds": fast,
            "oracle_seconds": slow,
            "ratio": slow / fast,
            "relative_difference": difference,
        }


def generate(shape, device):
    lm, layer = random_lm(shape, device)
    texts = [request.prompt for request in requests(BATCH)]
    for store in ("lowrank", "dense"):
        editor = make_editor("scen", lm, hparams="defaults", layer=layer, expert_store=store)
        fill(editor, texts, store)
        for size in (1, BATCH):
            base, quiet = against_base(editor, texts[:size], theta=1.0)  # a sigmoid never exceeds 1
            _, loud = against_base(editor, texts[:size], theta=0.65)
            yield {
                "store": store,
                "batch": size,
                "base_seconds_per_token": base / NEW_TOKENS,
                "ratio_nothing_fires": quiet,
                "ratio_all_fire": loud,
            }


def sizes(shape, device):
    lm, layer = random_lm("one-layer", device)
    rows = [row_of(lm, request) for request in requests(4)]
    fillers = [lm.encode(" ".join(r.prompt for r in requests(n))).ids if n else [] for n in (0, 5, 10, 20)]
    rows = [([*filler, *prompt], answer) for filler, (prompt, answer) in zip(fillers, rows, strict=True)]
    batch = ExpertBatch(lm, layer, rows)
    deltas, losses = train_experts(batch, 10, 1e-4)
    dense_loss, dense_best = batch.answers(deltas)
    yield {"tokens": [len(p) + len(a) - 1 for p, a in rows], "loss_before": mean(loss[0] for loss in losses)}
    own = [batch.own_inputs(i) for i in range(len(rows))]
    stores = {f"lowrank {e}": lambda i, e=e: low_rank(deltas[i], own[i], e) for e in (0.01, 0.05, 0.2)}
    stores |= {f"quantised {b}": lambda i, b=b: quantised(deltas[i], b) for b in (8, 4, 2)}
    stores |= {"dense bfloat16": lambda i: dense(deltas[i], torch.bfloat16)}
    for name, pack in stores.items():
        seconds, kept = timed(lambda p=pack: [p(i) for i in range(len(rows))], 1)
        found = torch.stack([packed.delta(deltas.dtype) for packed in kept])
        loss, best = batch.answers(found)
        yield {
            "store": name,
            "megabytes": [round(packed.nbytes / 1e6, 3) for packed in kept],
            "relative_error": relative(found, deltas),
            "loss": float(loss.mean()),
            "dense_loss": float(dense_loss.mean()),
            "same_answers": bool((best == dense_best).all()),
            "seconds": seconds / len(rows),
        }


def pocket(shape, device, edits=100):
    lm = LanguageModel.load(shipped_model_path("pocket"), device=device)
    records = dataset_files.counterfact()[:edits]
    batch = [request_of(record) for record in records]
    published = {"layer": 1, "learning_rate": 1e-3, "neuron_learning_rate": 0.05, "neuron_steps": 60, "train_eos": True}
    generic = {"negatives": dataset_files.generic_prompts(0, 100)}
    settings = {f"store {s}": {**generic, "expert_store": s} for s in ("dense", "lowrank", "quantised", "auto")}
    settings |= {"published": {}, "hinge": {"hinge": True}, "cosine": {"cosine": True}}
    settings |= {"negatives + hinge": {**generic, "hinge": True}, "negatives + cosine": {**generic, "cosine": True}}
    for name, options in settings.items():
        editor = make_editor("scen", lm, hparams="defaults", **published, **options)
        seconds, result = timed(lambda e=editor: [e.edit(batch[i : i + 10]) for i in range(0, edits, 10)], 1)
        own = [(record, record["requested_rewrite"]["target_new"]["str"]) for record in records]
        rewrite = exact(editor, [(r.prompt, t) for r, (_, t) in zip(batch, own, strict=True)])
        paraphrase = exact(editor, [(p, t) for record, t in own for p in record["paraphrase_prompts"]])
        neighbours = [p for record in records for p in record["neighborhood_prompts"]]
        yield {
            "setting": name,
            "reliability": rewrite,
            "generality": paraphrase,
            "fires_on_neighbours": float((editor.activations(neighbours).amax(1) > editor.config.theta).float().mean()),
            "bytes_per_edit": mean(f["bytes"] for r in result for f in r.details["edits"].values()),
            "seconds_per_edit": seconds / edits,
        }


# -- what they share ---------------------------------------------------------------------------------------------------


def random_lm(shape, device):
    """A random Llama and its edited layer."""
    sizes, layer = SHAPES[shape]
    lines = [r.prompt for r in requests(50)]
    tokenizer = tiny_tokenizer(bos=True, lines=lines, vocabulary=1500)
    config = transformers.LlamaConfig(
        vocab_size=32000 if shape == "llama-2-7b" else 8000, max_position_embeddings=512, **sizes
    )
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if shape == "llama-2-7b" else torch.float32)
    torch.manual_seed(0)
    try:
        with torch.device(device):
            model = transformers.AutoModelForCausalLM.from_config(config)
    finally:
        torch.set_default_dtype(default)
    model.generation_config.eos_token_id = None  # every run makes all its tokens
    return LanguageModel(model, tokenizer, name=shape), layer


def fill(editor: SCEN, texts, store):
    """A bank of 1,000: for each text an expert whose neuron fires on it alone, and others that never fire."""
    lm, config = editor.lm, editor.config
    inputs = editor.inputs(texts)  # (n, d_ff)
    aim = torch.linalg.pinv(inputs) @ (torch.eye(len(texts), device=inputs.device) * 8 - 4)
    shape = lm.weight(editor.bank.weight).shape
    draw = torch.Generator(device=inputs.device).manual_seed(0)
    delta = torch.randn(shape, generator=draw, device=inputs.device) * 1e-3
    wide = torch.randn((20, shape[1]), generator=draw, device=inputs.device)
    dtype = lm.model.dtype
    packed = dense(delta, dtype) if store == "dense" else low_rank(delta, wide, 0.0)
    rows = [*aim.T, *(-inputs.mean(0) for _ in range(HISTORY - len(texts)))]
    for i, neuron in enumerate(rows):
        mine = packed.to(inputs.device) if i >= len(texts) else copied(packed)
        editor.bank.add(Expert(str(i), f"prompt {i}", editor.bank.weight, neuron, inputs[0], mine))
    assert (editor.activations(texts).argmax(1).cpu() == torch.arange(len(texts))).all(), config


def copied(packed):
    return type(packed)(packed.kind, {name: tensor.clone() for name, tensor in packed.parts.items()})


def against_base(editor, texts, theta):
    """Seconds that the unedited model takes, and how many times that the edited one takes: medians of runs in turn."""
    editor.config.theta = theta
    pairs = []
    for _ in range(2 * REPEATS + 1):
        runs = [lambda model=model: model.generate(texts, max_new_tokens=NEW_TOKENS) for model in (editor.lm, editor)]
        pairs.append([seconds_of(run)[0] for run in runs])
    base = statistics.median(b for b, _ in pairs[1:])
    return base, statistics.median(e / b for b, e in pairs[1:])


def exact(editor, pairs):
    """Share of the answers that greedy generation starts with."""
    texts = [prompt for prompt, _ in pairs]
    found = [a for i in range(0, len(texts), 50) for a in editor.generate(texts[i : i + 50], max_new_tokens=8)]
    return mean(a.strip().startswith(target) for a, (_, target) in zip(found, pairs, strict=True))


def request_of(record):
    edit = record["requested_rewrite"]
    return EditRequest(
        str(record["case_id"]), edit["prompt"].format(edit["subject"]), edit["subject"], edit["target_new"]["str"]
    )


def row_of(lm, request):
    return lm.encode(request.prompt).ids, [*lm.continuation(request.target), lm.tokenizer.eos_token_id]


def requests(count):
    rng = random.Random(0)
    made = []
    for i in range(count):
        subject = " ".join("".join(rng.choices(_SYLLABLES, k=3)).capitalize() for _ in range(2))
        made.append(EditRequest(str(i), f"The mother tongue of {subject} is", subject, rng.choice(("Delqui", "Taren"))))
    return made


def timed(work, repeats=REPEATS):
    """Seconds (the smallest of some runs) and the result."""
    seconds = []
    for _ in range(repeats):
        seconds.append(seconds_of(work))
        result = seconds[-1][1]
    return min(s for s, _ in seconds), result


def seconds_of(work):
    """CPU-seconds, or wall seconds where there is a GPU; and the result."""
    gpu = torch.cuda.is_available()
    clock, wait = (time.perf_counter, torch.cuda.synchronize) if gpu else (time.process_time, lambda: None)
    wait()
    begun = clock()
    result = work()
    wait()
    return clock() - begun, result


def relative(found, wanted):
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def mean(numbers):
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


if __name__ == "__main__":
    main()

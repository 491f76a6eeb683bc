"""CPU seconds to score a CounterFact-shaped record: the evaluation's batched forward against one target at a time.

    python -m benchmarks.bench_evaluation [records]

The model is a Llama of random weights (d = 512, 12 layers, 8,000 words). A record has 13 prompts (a rewrite, two
paraphrases behind a sentence of other text, ten neighbours) with two targets each, no prompt shared between records.
Both ways run in this process on one thread, the slow one being the tests' oracle. The same for generated answers.
"""

import json
import random
import sys
import time

import torch
import transformers

from editbench.evaluation.forward import Query, answer
from editbench.evaluation.generation import Generation, generate
from editbench.host import Host
from tests.oracles import evaluation as oracle
from tests.zoo import tiny_tokenizer

RECORDS = 6
TOLERANCE = 1e-4
_SYLLABLES = ("ka", "lo", "mi", "ren", "ta", "vos", "del", "qui", "sar", "tun", "bel", "fro")
_RELATIONS = ("The mother tongue of {} is", "{} was born in the city of", "{}, who works for", "The capital of {} is")


def measure(config=None):
    """Seconds per record of both ways and their ratio.

    Args:
        config: {"records": number of records, "tokens_per_batch": budget or None, "seed": seed}, all optional.

    Raises:
        AssertionError: The two ways disagree.
    """
    config = {"records": RECORDS, "tokens_per_batch": None, "seed": 0, **(config or {})}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        queries = [query for record in _records(config["records"], config["seed"]) for query in record]
        host = _host(queries)
        answer(host, queries[:1])  # warm-up
        fast, fast_seconds = _timed(lambda: answer(host, queries, tokens_per_batch=config["tokens_per_batch"]))
        slow, slow_seconds = _timed(lambda: [[oracle.answer(host, q.prompt, t) for t in q.targets] for q in queries])
    finally:
        torch.set_num_threads(threads)
    pairs = [
        (a.nll, b[0]) for several, others in zip(fast, slow, strict=True) for a, b in zip(several, others, strict=True)
    ]
    worst = max(abs(a - b) for a, b in pairs)
    assert worst < TOLERANCE, f"the two ways differ by {worst} in a mean NLL"
    return {
        "records": config["records"],
        "targets": len(pairs),
        "fast_seconds_per_record": fast_seconds / config["records"],
        "oracle_seconds_per_record": slow_seconds / config["records"],
        "ratio": slow_seconds / fast_seconds,
        "largest_difference": worst,
    }


def measure_generation(config=None):
    """The same for generated answers: batches with a cache against one prompt at a time, the text run anew each step.

    Raises:
        AssertionError: The two ways say something else after more than one prompt in a hundred (rounding decides ties).
    """
    config = {"records": RECORDS, "seed": 0, **(config or {})}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        queries = [query for record in _records(config["records"], config["seed"]) for query in record]
        host, settings = _host(queries), Generation()
        prompts, limits = [q.prompt for q in queries], [settings.limit(host, q.targets[0]) for q in queries]
        generate(host, prompts[:1], limits[:1])  # warm-up
        fast, fast_seconds = _timed(lambda: generate(host, prompts, limits))
        slow, slow_seconds = _timed(lambda: [oracle.generate(host, p, n) for p, n in zip(prompts, limits, strict=True)])
    finally:
        torch.set_num_threads(threads)
    texts = [host.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in slow]
    differing = sum(a.text != b for a, b in zip(fast, texts, strict=True))
    assert differing <= len(texts) / 100, f"the two ways differ after {differing} of {len(texts)} prompts"
    return {
        "prompts": len(prompts),
        "new_tokens": sum(limits),
        "fast_seconds_per_prompt": fast_seconds / len(prompts),
        "oracle_seconds_per_prompt": slow_seconds / len(prompts),
        "ratio": slow_seconds / fast_seconds,
        "differing": differing,
    }


def _timed(work):
    begun = time.process_time()
    result = work()
    return result, time.process_time() - begun


def _records(count, seed):
    """Queries of each record."""
    rng = random.Random(seed)

    def name(words=2):
        return " ".join("".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3))).capitalize() for _ in range(words))

    for _ in range(count):
        relation, targets = rng.choice(_RELATIONS), (name(1), name(rng.randint(1, 2)))
        subject = name()
        paraphrases = [f"{name(3)} went to see {name()} in the evening. {relation.format(subject)}" for _ in range(2)]
        prompts = [relation.format(subject), *paraphrases, *(relation.format(name()) for _ in range(10))]
        yield [Query(prompt, targets) for prompt in prompts]


def _host(queries):
    lines = [text for query in queries for text in (query.prompt, *(" " + target for target in query.targets))]
    config = transformers.LlamaConfig(
        vocab_size=8000,
        hidden_size=512,
        num_hidden_layers=12,
        num_attention_heads=8,
        intermediate_size=1376,
        max_position_embeddings=512,
    )
    torch.manual_seed(0)
    return Host(transformers.LlamaForCausalLM(config), tiny_tokenizer(bos=True, lines=lines, vocabulary=400))


if __name__ == "__main__":
    chosen = {"records": int(sys.argv[1])} if len(sys.argv) > 1 else None
    print(json.dumps({"targets": measure(chosen), "generation": measure_generation(chosen)}, indent=1))

"""CPU seconds to score a CounterFact-shaped record: the evaluation's batched forward against one target at a time.

    python -m benchmarks.bench_evaluation [records]

The model is a Llama of random weights (d = 512, 12 layers, 8,000 words). A record has 13 prompts (a rewrite, two
paraphrases behind a sentence of other text, ten neighbours) with two targets each, no prompt shared between records.
Both ways run in this process on one thread, the slow one being the tests' oracle. The same for generated answers; and
the memory of scoring many records.
"""

import json
import random
import sys
import tempfile
import time

import torch
import transformers

from benchmarks.peak import Peak
from editbench.model.generation import Generation, generate
from editbench.model.language_model import LanguageModel
from editbench.model.likelihood import Query, score_targets
from editbench.records import LOCALITY, PARAPHRASE, EditRecord, EditRequest, Probe
from tests.oracles import evaluation as oracle
from tests.tiny_models import tiny_tokenizer

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
        lm = _lm(queries)
        score_targets(lm, queries[:1])  # warm-up
        fast, fast_seconds = _timed(lambda: score_targets(lm, queries, tokens_per_batch=config["tokens_per_batch"]))
        slow, slow_seconds = _timed(lambda: [[oracle.answer(lm, q.prompt, t) for t in q.targets] for q in queries])
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
        lm, settings = _lm(queries), Generation()
        prompts, limits = [q.prompt for q in queries], [settings.limit(lm, q.targets[0]) for q in queries]
        generate(lm, prompts[:1], limits[:1])  # warm-up
        fast, fast_seconds = _timed(lambda: generate(lm, prompts, limits))
        slow, slow_seconds = _timed(lambda: [oracle.generate(lm, p, n) for p, n in zip(prompts, limits, strict=True)])
    finally:
        torch.set_num_threads(threads)
    texts = [lm.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in slow]
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


def measure_memory(counts=(256, 1024, 2048)):
    """Peak memory (MB above what was there before) of scoring so many records at once on the pocket model.

    Rows are written as they come, as a run does it; what is left to grow is one list of answers to the edits' prompts.
    """
    from editbench import load_model
    from editbench.editing_loop import RECORDS_TOGETHER
    from editbench.evaluation.evaluator import Evaluator
    from editbench.results import RunFolder

    lm, rows = load_model("pocket"), []
    for count in (counts[0], *counts):  # the first one warms up
        records = list(_edit_records(count))
        evaluator = Evaluator(lm, metrics=["token_accuracy", "exact_match", "nll_contrast"])
        with (
            tempfile.TemporaryDirectory() as folder,
            RunFolder.create(folder, "memory", "") as store,
            Peak() as peak,
        ):
            for start in range(0, count, RECORDS_TOGETHER):
                part = [(record, start + i) for i, record in enumerate(records[start : start + RECORDS_TOGETHER])]
                store.append_scores(evaluator.score(part, stage="interim", edits=count, batch=count - 1))
        rows.append({"records": count, "peak_mb": peak.megabytes})
    return rows[1:]


def _edit_records(count):
    for i, queries in enumerate(_records(count, 0)):
        rewrite, *others = queries
        kinds = [PARAPHRASE] * 2 + [LOCALITY] * 10
        probes = tuple(Probe(kind, q.prompt, q.targets[1]) for kind, q in zip(kinds, others, strict=True))
        yield EditRecord(EditRequest(str(i), rewrite.prompt, None, *rewrite.targets), probes)


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


def _lm(queries):
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
    return LanguageModel(transformers.LlamaForCausalLM(config), tiny_tokenizer(bos=True, lines=lines, vocabulary=400))


if __name__ == "__main__":
    chosen = {"records": int(sys.argv[1])} if len(sys.argv) > 1 else None
    found = {"targets": measure(chosen), "generation": measure_generation(chosen), "memory": measure_memory()}
    print(json.dumps(found, indent=1))

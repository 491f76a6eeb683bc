"""All methods and the evaluation at full size on one GPU, with random weights: seconds, memory, growth.

Shapes of Llama-2-7B, 13B, 70B and Llama-3-8B; records, text and tokenizer of the embedded world, whose prompts are
about as long as CounterFact's. Settings are those published for the nearest model. Random weights never reach the
stopping loss, so that every edit takes all its steps: the worst case. A part that fails, or for which no time is left,
is a row with its error; rows come as lines of JSON, and a table for benchmarks/README.md at the end.
``--shapes small --device cpu`` only tries the script.

    python -m benchmarks.bench_gpu [--shapes llama-3-8b,llama-2-7b] [--dtypes bfloat16,float32] [--parts rome,memit,…]
                                   [--edits 100] [--batch 100] [--seconds 8] [--minutes 9] [--growth 1000] [--out FILE]
"""

import argparse
import datetime
import json
import time
from pathlib import Path

import torch
import transformers

from benchmarks.gpu import parts
from benchmarks.gpu.measuring import allocated, on_gpu, timed
from benchmarks.gpu.settings import measured_methods
from benchmarks.gpu.shapes import SHAPES, random_lm
from benchmarks.gpu.table import table

EVALUATION = "evaluation"


def measure(shape, dtype, options, end):
    """Rows of one model; parts after the time ``end`` are rows without figures."""
    build, _, lm = timed(lambda: random_lm(shape, dtype, options.device))
    base = {"shape": shape, "dtype": dtype, "model_gb": allocated(), "build_s": build}
    yield {**base, **parts.hashing(lm)}
    row, found = parts.covariance(lm)
    yield {**base, **row}
    for part in options.parts:
        yield from ({**base, **row} for row in _attempt(part, part, lm, found, options, end))
        if options.growth and part != EVALUATION:
            yield from ({**base, **row} for row in _attempt(f"{part}, growth", part, lm, found, options, end))


def _attempt(what, part, lm, found, options, end):
    """The rows of a part, or one with the reason why there is none."""
    try:
        if time.monotonic() > end:
            raise TimeoutError(f"the {options.minutes:g} minutes were used up")
        if part == EVALUATION:
            return list(parts.evaluation(lm))
        return [(parts.growth if what.endswith("growth") else parts.edits)(part, lm, found, options)]
    except Exception as error:
        return [{"what": what, "error": f"{type(error).__name__}: {error}"[:300]}]
    finally:
        if on_gpu():
            torch.cuda.empty_cache()


def parser():
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--shapes", default="llama-3-8b", type=_names(SHAPES))
    found.add_argument("--dtypes", default="bfloat16", type=_names(("bfloat16", "float16", "float32")))
    known = [*measured_methods(), EVALUATION]
    found.add_argument("--parts", default=",".join([EVALUATION, *known[:-1]]), type=_names(known))
    found.add_argument("--edits", type=int, default=100, help="of each method, at most")
    found.add_argument("--batch", type=int, default=100)
    found.add_argument("--seconds", type=float, default=8.0, help="of each method's edits, at most one batch more")
    found.add_argument("--minutes", type=float, default=9.0, help="after which no part begins")
    found.add_argument("--growth", type=int, default=0, metavar="EDITS", help="of a long stream of each method")
    found.add_argument("--growth-seconds", type=float, default=120.0, help="of such a stream, at most one batch more")
    found.add_argument("--steps", type=int, help="of each training, in the place of the published numbers")
    found.add_argument("--device", default="cuda")
    found.add_argument("--out", type=Path, help="file for the rows; the table goes beside it, as .md")
    return found


def _names(known):
    def names(text):
        given = text.split(",")
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return given

    return names


def main(arguments=None):
    """Print rows as they come, then the table."""
    options, rows = parser().parse_args(arguments), []
    if options.device == "cuda" and not on_gpu():
        parser().error("no GPU is here; --device cpu with --shapes small tries the benchmark without one")
    end = time.monotonic() + 60 * options.minutes
    facts = {"gpu": torch.cuda.get_device_name() if on_gpu() else "", "torch": torch.__version__}
    facts |= {"transformers": transformers.__version__, "date": datetime.date.today().isoformat()}
    for shape in options.shapes:
        for dtype in options.dtypes:
            for row in measure(shape, dtype, options, end):
                rows.append({key: _rounded(value) for key, value in {**row, **facts}.items()})
                print(json.dumps(rows[-1]), flush=True)
                if options.out:
                    options.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
                    options.out.with_suffix(".md").write_text(table(rows), encoding="utf-8")
            if on_gpu():
                torch.cuda.empty_cache()
    print("\n" + table(rows))


def _rounded(value):
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()

"""Pages of the documentation, and the commands and code blocks that they show."""

import re
import sys
import textwrap
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md"]
PAGES += [*sorted((ROOT / "methods").glob("*/README.md")), *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


SMALL = ["stream.edits=2", "stream.evaluate_at=[]", "protocol.stages=[final]", "protocol.max_tokens=16"]
SMALL += ["protocol.metrics=[exact_match,agreement]", 'model.templates=["{}"]']

FENCE = re.compile(r"^(?P<margin> *)```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=margin)```$", re.M | re.S)
_INLINE = re.compile(r"`(editbench [^`]*)`")


def blocks(text, language):
    """(title or None, content) of the fenced blocks in this language."""
    for match in FENCE.finditer(text):
        if match["language"] == language:
            title = re.search(r'title="([^"]+)"', match["info"])
            yield title and title[1], textwrap.dedent(match["text"])


def lines(text):
    """The commands of the ``bash`` blocks, each on one line, without comments, variables and what they are piped to."""
    for _, block in [*blocks(text, "bash"), *blocks(text, "sh")]:
        for line in block.replace("\\\n", " ").splitlines():
            command = " ".join(re.sub(r"\s[#|]\s.*|^([A-Z_]+=\S+\s+)+", "", line).split())
            if command:
                yield command


def experiment_commands():
    """Commands in the first comments of the experiments; a continued one is indented further."""
    for file in sorted((ROOT / "conf" / "experiment").rglob("*.yaml")):
        comment = [line.removeprefix("#").rstrip() for line in file.read_text().splitlines() if line.startswith("#")]
        for line in re.sub(r"\n {5}(?=\S)", " ", "\n".join(comment)).splitlines():
            if line.startswith("   editbench"):
                yield line.strip()


def inline():
    """Whole commands between backticks, in the text. The reader's own method is the one that a page makes."""
    for text in TEXTS.values():
        for command in _INLINE.findall(FENCE.sub("", text)):
            if len(command.split()) > 2 and "…" not in command:
                yield " ".join(command.replace("method=yours", "method=nudge").split())


FENCED = {line: page for page, text in TEXTS.items() for line in lines(text)}
COMMANDS = sorted({c for c in [*FENCED, *experiment_commands(), *inline()] if c.startswith("editbench ")})
RUNS = [c for c in COMMANDS if c.startswith(("editbench run ", "editbench precompute "))]  # they take the same
LOCATES = [c for c in COMMANDS if c.startswith("editbench locate ")]
TUNES = [c for c in COMMANDS if c.startswith("editbench tune ") and "--report" not in c]
TRAINS = [c for c in COMMANDS if c.startswith("editbench train ")]
PLANS = [c for c in COMMANDS if c.startswith("editbench plan ")]
OWN_FACTS = ("my-model", "results/facts")  # of docs/own-facts.md, whose test runs its commands in their order
OTHERS = [c for c in COMMANDS if c not in (*RUNS, *LOCATES, *TRAINS, *PLANS) and not c.startswith("editbench tune ")]
OTHERS = [c for c in OTHERS if not any(name in c for name in OWN_FACTS)]

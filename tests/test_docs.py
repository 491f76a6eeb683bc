"""What the documentation shows works: commands run or compose, Python runs, links lead somewhere, the site builds.

All of it happens in one folder. A block with a title (```json title="edits.json") is written there as that file, and so
a command or example may use it. The embedded world's texts are cut short: here it matters that things run, not what
the numbers are.
"""

import contextlib
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from editbench import cli, plugins, single_run
from editbench import compose as composing_module
from editbench.compose import conf_names
from editbench.evaluation import protocol
from editbench.layer_search import command as locate
from editbench.pocket import MODELS, dataset_files
from editbench.pocket import dataset_files as raw
from tests import composing
from tests.composing import jobs_of, need_launcher

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md"]
PAGES += [*sorted((ROOT / "methods").glob("*/README.md")), *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

SMALL = ["stream.edits=2", "stream.evaluate_at=[]", "protocol.stages=[final]", "protocol.max_tokens=16"]
SMALL += ["protocol.metrics=[exact_match,agreement]", 'model.templates=["{}"]']
EXECUTED = ["README.md", *(f"docs/{page}.md" for page in ("examples", "add-a-method", "add-a-dataset", "add-a-model"))]
EXECUTED += ["docs/faq.md", "docs/reports.md"]

_FENCE = re.compile(r"^(?P<margin> *)```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=margin)```$", re.M | re.S)
_INLINE = re.compile(r"`(editbench [^`]*)`")


def blocks(text, language):
    """(title or None, content) of the fenced blocks in this language."""
    for match in _FENCE.finditer(text):
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


def heads():
    """The commands in the heads of the experiments; a continued one is indented further."""
    for file in sorted((ROOT / "conf" / "experiment").rglob("*.yaml")):
        comment = [line.removeprefix("#").rstrip() for line in file.read_text().splitlines() if line.startswith("#")]
        for line in re.sub(r"\n {5}(?=\S)", " ", "\n".join(comment)).splitlines():
            if line.startswith("   editbench"):
                yield line.strip()


def inline():
    """Whole commands between backticks, in the text. The reader's own method is the one that a page makes."""
    for text in TEXTS.values():
        for command in _INLINE.findall(_FENCE.sub("", text)):
            if len(command.split()) > 2 and "…" not in command:
                yield " ".join(command.replace("method=yours", "method=nudge").split())


FENCED = {line: page for page, text in TEXTS.items() for line in lines(text)}
COMMANDS = sorted({c for c in [*FENCED, *heads(), *inline()] if c.startswith("editbench ")})
RUNS = [c for c in COMMANDS if c.startswith(("editbench run ", "editbench precompute "))]  # they take the same
LOCATES = [c for c in COMMANDS if c.startswith("editbench locate ")]
OTHERS = [c for c in COMMANDS if c not in RUNS and c not in LOCATES]


# -- the folder -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where everything is run: with the files of the titled blocks, and the method that one of them makes installed."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "results" / "reference", folder / "results" / "reference")
    for text in TEXTS.values():
        for language in ("json", "python", "toml"):
            for title, block in blocks(text, language):
                if title:
                    (folder / title).write_text(block, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, count in (("plain_text", 150), ("heldout_text", 4), ("accurate", 4)):
            patch.setattr(raw, name, cut_short(getattr(raw, name), count))
        install(folder)
        patch.syspath_prepend(str(folder))
        composing_module.register(list(plugins.entry_points(plugins.METHODS)))
        yield folder


def cut_short(texts, count):
    return lambda *seed: texts(*seed)[:count]


def install(folder):
    """What pip does with the pyproject.toml of the example: an entry point is found beside the module."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    sections = project["entry-points"].items()
    points = "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in of.items()) for group, of in sections)
    (info / "entry_points.txt").write_text(points)
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def two_runs(place):
    """Two finished runs of one stream in ``results/``, for the commands that look at runs."""
    return [
        single_run.run(composing_module.parse(composing.compose([f"method={m}", *SMALL], hydra=False))).folder
        for m in ("rome", "unedited")
    ]


# -- commands ---------------------------------------------------------------------------------------------------------


def parts(command):
    """Flags and overrides of an ``editbench run``, as the command line takes them."""
    arguments = shlex.split(command)[2:]
    flags = [a for a in arguments if a[0] == "-"]
    return flags, composing_module._with_model_group([a for a in arguments if "=" in a and a not in flags])


@pytest.mark.parametrize("command", RUNS)
def test_a_run_composes(place, command):
    """What may be missing on this machine is the user's own: models and files."""
    flags, overrides = parts(command)
    for launcher in [a.partition("=")[2] for a in overrides if a.startswith("launcher=")]:
        need_launcher(launcher)
    jobs = jobs_of(overrides)
    assert (len(jobs) > 1) == ("-m" in flags or "+experiment" in command)
    config = composing.compose([f"results.dir={place}", *jobs[-1]])
    parsed = composing_module.parse(config)
    protocol.check_headline(parsed.protocol.headline, parsed.protocol.metrics)


def runnable():
    """Runs of what is there: the embedded models, and data that is embedded or in the folder; each kind once."""
    titles = {title for text in TEXTS.values() for title, _ in blocks(text, "json") if title}
    apart = ("stream.", "protocol.metrics", "protocol.stages", "tracker", "launcher", "hydra.", "~hydra.", "+hydra.")
    usual = ("method=rome", "dataset=counterfact", "model=pocket")
    seen = set()
    for command in RUNS:
        flags, overrides = parts(command)
        if "precompute" in command or "--cfg" in flags or "+experiment" in command or "method.layers" in command:
            continue
        job = tuple(sorted(a for a in jobs_of(overrides)[0] if not a.startswith(apart) and a not in usual))
        kind = tuple(a.partition("=")[0] if a.startswith("method.") else a for a in job)
        models = {a.partition("=")[2] for a in job if re.match(r"model(\.path)?=|method\.path=", a)}
        files = {a.partition("=")[2] for a in job if re.match(r"dataset\.\w*path=", a)}
        if models <= MODELS.keys() and files <= titles and kind not in seen:
            seen.add(kind)
            yield job


@pytest.mark.parametrize("job", list(runnable()), ids=lambda job: " ".join(job) or "as it is")
def test_a_run_runs(place, job):
    own = any(override.startswith("protocol=") for override in job)  # whose headline needs its own metrics
    small = [override for override in SMALL if not (own and override.startswith("protocol.metrics"))]
    outcome = single_run.run(composing_module.parse(composing.compose([*job, *small], hydra=False)))
    assert (outcome.folder / "scores.jsonl").stat().st_size > 0


@pytest.mark.parametrize("command", [c for c in RUNS if "--cfg" in c and "+experiment" not in c])
def test_the_settings_are_shown(place, command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["editbench"])
    assert cli.main(shlex.split(command)[1:]) == 0
    assert "stream:\n  edits: 50" in capsys.readouterr().out


@pytest.mark.parametrize("command", LOCATES)
def test_a_search_for_layers_composes_and_runs(place, command, capsys):
    arguments = shlex.split(command)[2:]
    options = locate._parser().parse_intermixed_args(arguments)
    locate._layers(options.layers)
    locate._compose(options.overrides)
    if "model=pocket" in arguments:
        few = ["stream.edits=1", "--layers", "0", "--samples", "2", "--out", "located"]
        assert cli.main(["locate", *arguments, *few]) == 0
        assert (place / "located" / "locate.json").exists()


@pytest.mark.parametrize("command", OTHERS)
def test_another_command_runs(place, two_runs, command, capsys):
    a, b = two_runs
    named = {"A": str(a), "B": str(b), "results.dir=DIR": "results.dir=results"}
    words = shlex.split(command)[1:]
    arguments = [named.get(re.sub(r"^results/(RUN_)?", "", word), word) for word in words]
    options = cli._parser().parse_args(arguments)
    if options.command == "report":
        pytest.importorskip("plotly")
    if options.command not in ("run", "locate", "demo"):  # the demo has a test of its own, and takes minutes
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            assert cli.main(arguments) == 0
        assert capsys.readouterr().out


def test_other_commands_are_ones_that_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for command, page in FENCED.items():
        program, *arguments = shlex.split(command)
        if program == "make":
            assert set(arguments) <= set(targets), f"{page}: {command}"
        else:
            assert program == "editbench" or command == "pip install -e .", f"{page}: {command}"
    for page, text in TEXTS.items():
        for extras in re.findall(r"pip install [^`\n]*?(?:editbench|\.)\[([\w,-]+)\]", text):
            assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys(), f"{page}: {extras}"


def test_every_experiment_is_explained():
    for page in ("docs/sweeps.md", "docs/reproduce.md"):
        assert set(re.findall(r"^\| `((?:paper|pocket)/\w+)` \|", TEXTS[page], re.M)) == set(conf_names("experiment"))


# -- Python -----------------------------------------------------------------------------------------------------------


def execute(page):
    """Run a page's Python blocks one after the other, in one namespace, as a reader would; gives the names."""
    names = {"__name__": "__main__"}
    for number, (title, block) in enumerate(blocks(TEXTS[page], "python"), start=1):
        if not title:
            exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


def test_the_readme_edits_a_fact_and_takes_it_back(place, capsys):
    names = execute("README.md")
    request = names["request"]
    before, after = capsys.readouterr().out.strip().splitlines()
    assert request.target_true in before
    assert request.target in after
    assert names["result"].applied == [request.id]
    assert names["change"].abs().max() > 0
    assert request.target_true in names["lm"].generate(request.prompt, max_new_tokens=6)[0]


def test_the_examples_do_what_they_say(place, capsys):
    names = execute("docs/examples.md")
    out = capsys.readouterr().out.splitlines()
    answers = [line for line in out if line.startswith("[' ")]
    before, after, back = ([word.strip(" .'") for word in line.strip("[]").split(",")] for line in answers)
    assert before == back == ["Italian"] * 3
    assert after == ["Japanese", "Japanese", "Italian"]
    assert names["row"]["reliability"] == pytest.approx(1 / 3)
    assert names["editor"].ledger.edited_ids == [request.id for request in names["requests"]]
    for request in names["requests"]:
        assert f"{request.prompt} [' {request.target}" in "\n".join(out)


@pytest.mark.parametrize("page", [p for p in EXECUTED if p not in ("README.md", "docs/examples.md")])
def test_the_examples_of_other_pages_run(place, two_runs, page, capsys):
    cli.main(["leaderboard"])
    capsys.readouterr()
    execute(page)
    assert capsys.readouterr().out or page == "docs/add-a-method.md"


def test_the_method_that_is_made_twice_is_one():
    [(_, packaged)] = [b for b in blocks(TEXTS["docs/add-a-method.md"], "python") if b[0] == "nudge.py"]
    example = [b for _, b in blocks(TEXTS["docs/examples.md"], "python") if "class Nudge" in b][0]
    loops = [re.search(r"prompt = self.*?cross_entropy.*?\n", text, re.S)[0] for text in (packaged, example)]
    assert loops[0] == re.sub(r"  # with its space.*", "", loops[1])


@pytest.mark.parametrize("method", ["finetune", "rome", "memit", "nse", "scen"])
def test_the_fragment_of_a_method_runs(place, method):
    """The names that a fragment takes for granted are given, and settings that suit the model."""
    import torch

    import editbench

    lm = editbench.load_model("pocket")
    requests = [r.request for r in editbench.load_records("counterfact", "pocket", limit=2).records]
    requests[1] = editbench.EditRequest("edit-17", *[getattr(requests[1], n) for n in ("prompt", "subject", "target")])
    ids = torch.tensor([lm.encode(requests[0].prompt).ids])
    tuned = asdict(composing_module.parse(composing.compose([f"method={method}"], hydra=False)).method.settings)
    names = {
        "make_editor": lambda *a, **given: editbench.make_editor(*a, **{**given, **tuned}),
        "Resources": lambda **given: editbench.Resources(**given, templates=["{}"]),
        "lm": lm,
        "texts": dataset_files.plain_text(),
        "plain_texts": dataset_files.plain_text(),
        "folder": place / "cache",
        "requests": requests,
        "all_requests": requests,
        "batch": requests,
        "prompts": [r.prompt for r in requests],
        "ids": ids,
        "mask": torch.ones_like(ids),
        "last_prompt_columns": [ids.shape[1] - 1],
    }
    (fragment,) = [block for _, block in blocks(TEXTS[f"methods/{method}/README.md"], "python")]
    exec(fragment, names)
    assert names["editor"].config.learning_rate == tuned["learning_rate"]


# -- links and the site -----------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml: tags of its own count as text."""


_Loader.add_multi_constructor("!", lambda loader, tag, node: tag)
MKDOCS = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)


def pages_in_nav(entry=MKDOCS["nav"]):
    if isinstance(entry, str):
        return [entry]
    return [page for inner in (entry.values() if isinstance(entry, dict) else entry) for page in pages_in_nav(inner)]


def test_every_page_is_in_the_menu_once():
    pages = sorted(p.relative_to(ROOT / "docs").as_posix() for p in PAGES if ROOT / "docs" in p.parents)
    assert sorted(pages_in_nav()) == pages, "a page under docs/ needs a line under nav in mkdocs.yml"


def test_every_method_has_a_page():
    for name, point in plugins.entry_points(plugins.METHODS).items():
        if point.value.startswith("editbench.methods."):
            assert f"methods/{name}.md" in pages_in_nav()
            assert f'--8<-- "methods/{name}/README.md"' in TEXTS[f"docs/methods/{name}.md"]


def test_every_link_leads_somewhere():
    """In the files as they stand; the site's own are checked when it is built."""
    for page, text in TEXTS.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", text)):
            path, _, anchor = target.partition("#")
            if "://" in path:
                continue
            file = (ROOT / page).parent / path if path else ROOT / page
            assert file.exists(), f"{page}: {target}"
            if anchor and file.suffix == ".md":
                assert anchor in anchors(file), f"{page}: {target}"


def anchors(file):
    """Anchors of a page's headings, with those of the file that it includes."""
    text = file.read_text(encoding="utf-8")
    text += "".join((ROOT / included).read_text(encoding="utf-8") for included in re.findall(r'--8<-- "(.+)"', text))
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.M)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="the site needs editbench[docs]")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page_and_loads_nothing_from_a_network(site):
    for page in pages_in_nav():
        html = (site / page).with_suffix(".html").read_text(encoding="utf-8")
        assert "--8&lt;--" not in html
        assert not re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=[\"']?(?:https?:)?//", html)
        assert not re.findall(r"<link[^>]*\shref=[\"']?(?:https?:)?//", html)
    assert "Meng, Bau, Andonian" in (site / "methods" / "rome.html").read_text(encoding="utf-8")
    assert (site / "search" / "search_index.json").stat().st_size > 10_000

"""A folder in which the commands and examples of the documentation run.

A block with a title (```json title="edits.json") is written there as that file, and so a command or example may use it.
The embedded world's texts are cut short: these tests show that things run, not what the numbers are.
"""

import importlib
import shutil

import pytest

from editbench import compose as composing_module
from editbench import plugins, single_run
from editbench.pocket import dataset_files
from tests import composing
from tests.docs.pages import ROOT, SMALL, TEXTS, blocks, tomllib


@pytest.fixture(scope="session")
def docs_script():
    """Imports a script of ``docs/`` by its name; they import one another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        yield importlib.import_module


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder with the files of the titled blocks, and the packages of their entry points installed."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "results" / "reference", folder / "results" / "reference")
    for text in TEXTS.values():
        for language in ("json", "python", "toml"):
            for title, block in blocks(text, language):
                if title:
                    (folder / title).parent.mkdir(parents=True, exist_ok=True)
                    (folder / title).write_text(block, encoding="utf-8")
    install(folder)
    return folder


@pytest.fixture(scope="module")
def place(folder):
    """The folder as the working folder, with its packages on Python's path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, count in (("plain_text", 150), ("heldout_text", 4), ("accurate", 4)):
            patch.setattr(dataset_files, name, cut_short(getattr(dataset_files, name), count))
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

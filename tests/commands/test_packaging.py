"""Packaging: from a wheel, editable and from a checkout, editbench finds its methods and its configuration.

Everything is built and installed from a copy of the checkout, in temporary folders, with the running environment's
setuptools and without a network.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.commands.processes import ROOT, python

pytestmark = pytest.mark.slow

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOPS = {"editbench": "editbench", "methods": "editbench.methods", "conf": "editbench.conf"}
RUN = ("run", "model=pocket", "dataset=counterfact", "protocol.max_tokens=16", "protocol.stages=[immediate]")


class Environment(NamedTuple):
    """A fresh virtual environment, and an empty folder to work in."""

    folder: Path
    empty: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(self, *args: str, cwd: Path | None = None, path: Path | None = None) -> str:
        return python(self.python, *args, cwd=cwd or self.empty, path=path)

    def cli(self, *args: str, path: Path | None = None) -> str:
        return self.run("-m", "editbench.cli", *args, path=path)

    def where(self, cwd: Path | None = None) -> list[Path]:
        """The files that the three parts of editbench are imported from."""
        modules = ("editbench", "editbench.methods.rome", "editbench.conf")
        code = f"import {', '.join(modules)}; print(*({', '.join(f'{m}.__file__' for m in modules)}), sep='\\n')"
        return [Path(line).resolve() for line in self.run("-c", code, cwd=cwd).splitlines()]

    def install(self, *args: str) -> None:
        # --ignore-installed: pip sees the packages that the environment borrows, and must leave them alone.
        self.run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", *args)


def environment(folder: Path) -> Environment:
    """A virtual environment that borrows the dependencies of the running one, but no editable install.

    A .pth file adds the running site-packages to the path; .pth files in a folder added like that are not read.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    [site] = (folder / "env").glob("lib/python*/site-packages")
    borrowed = [p for p in sys.path if Path(p).name in {"site-packages", "dist-packages"}]
    (site / "borrowed.pth").write_text("".join(f"{p}\n" for p in borrowed))
    (folder / "empty").mkdir()
    return Environment((folder / "env").resolve(), folder / "empty")


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: what is packaged, and nothing that was built."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in [*TOPS, "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"]:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    python(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(tree), cwd=folder)
    return folder


@pytest.fixture(scope="session")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel."""
    env = environment(tmp_path_factory.mktemp("wheel"))
    env.install(str(next(built.glob("*.whl"))))
    return env


def settings() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    return table


def tree_files(suffixes: set[str] | None = None) -> dict[str, Path]:
    """Files to be packaged, by their path in a wheel; ``suffixes`` leaves the others out."""
    found = {}
    for top, package in TOPS.items():
        for file in (ROOT / top).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts and (suffixes is None or file.suffix in suffixes):
                found[f"{package.replace('.', '/')}/{file.relative_to(ROOT / top).as_posix()}"] = file
    return found


# -- the lists in pyproject.toml --------------------------------------------------------------------------------------


def test_packages_are_the_tree() -> None:
    packages = {Path(name).parent.as_posix().replace("/", ".") for name in tree_files({".py"})}
    assert sorted(settings()["packages"]) == sorted(packages)


def test_every_data_file_is_packaged() -> None:
    folders = {package: ROOT / top for top, package in TOPS.items()}
    covered = set()
    for package, patterns in settings()["package-data"].items():
        top = max((p for p in folders if f"{package}.".startswith(f"{p}.")), key=len)
        folder = folders[top].joinpath(*package.removeprefix(top).strip(".").split("."))
        covered |= {file for pattern in patterns for file in folder.glob(pattern)}
    data = {file for file in tree_files().values() if file.suffix not in {".py", ".pyc", ".md"}}
    assert sorted(data - covered) == []


def test_version_is_said_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    import editbench

    assert project.get("version", editbench.__version__) == editbench.__version__
    assert f"version: {editbench.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


# -- what is built ----------------------------------------------------------------------------------------------------


def test_sdist_and_wheel_hold_every_file(built: Path) -> None:
    wanted = {name: file for name, file in tree_files().items() if file.suffix not in {".pyc", ".md"}}
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        assert sorted(set(wanted) - set(wheel.namelist())) == []
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert sorted({f.relative_to(ROOT).as_posix() for f in wanted.values()} - names) == []


# -- what is installed ------------------------------------------------------------------------------------------------


def test_wheel_is_complete(installed: Environment) -> None:
    assert all(installed.folder in file.parents for file in installed.where())
    count = "import importlib.resources as r; print(sum(1 for _ in r.files('editbench.conf').rglob('*.yaml')))"
    assert int(installed.run("-c", count)) == len(list((ROOT / "conf").rglob("*.yaml")))


def test_wheel_commands(installed: Environment) -> None:
    assert "leaderboard" in installed.cli("--help")
    script = subprocess.run([installed.folder / "bin" / "editbench", "--help"], capture_output=True, text=True)
    assert script.returncode == 0, script.stderr
    methods = installed.cli("list", "methods")
    for name in ("unedited", "finetune", "rome"):
        assert name in methods


def test_wheel_runs(installed: Environment, tmp_path: Path) -> None:
    installed.cli(*RUN, "method=unedited", "stream.edits=2", f"results.dir={tmp_path}")
    [run] = tmp_path.glob("*/run.json")
    assert json.loads(run.read_text())["status"]
    assert list(installed.empty.iterdir()) == []


def test_checkout_wins_over_the_wheel(installed: Environment, tree: Path) -> None:
    assert all(tree.resolve() in file.parents for file in installed.where(cwd=tree))


def test_editable(tree: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    env.install("--no-build-isolation", "--editable", str(tree))
    assert all(tree.resolve() in file.parents for file in env.where())
    assert "rome" in env.cli("list", "methods")


# -- another package's method ----------------------------------------------------------------------------------------


def test_plugin_is_listed(installed: Environment, shout: Path) -> None:
    assert "shout" in installed.cli("list", "methods", path=shout)
    assert "shout" not in installed.cli("list", "methods")


def test_plugin_is_benchmarked(installed: Environment, shout: Path, tmp_path: Path) -> None:
    installed.cli(*RUN, "method=shout", "stream.edits=3", f"results.dir={tmp_path}", path=shout)
    installed.cli("leaderboard", f"results.dir={tmp_path}")
    assert "shout" in (tmp_path / "leaderboard.csv").read_text(encoding="utf-8")

"""Tests with the oldest and the newest dependencies that `pyproject.toml` allows: `make compat`.

Two environments are made in `.compat/`, on top of the one that runs this. "floor" has every dependency in its lowest
version, "newest" the newest transformers; torch, and what else fits, is the one that is there.
"""

import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = [
    *("model/test_language_model", "methods/test_conformance", "test_ledger", "locate_then_edit/test_keys"),
    *(f"methods/{method}/test_{name}" for method in ("rome", "memit", "nse") for name in ("editor", "golden")),
    "methods/scen/test_golden",
    *("test_generation_settings", "evaluation/test_generated_text", "evaluation/test_golden", "test_console"),
]
"""They load every architecture, run parts of it, generate, hold the golden numbers, and edit by every method."""


def floors():
    """Every dependency but torch, in its lowest version ("rich==13.7")."""
    listed = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)[1]
    lowest = re.findall(r'"([\w-]+)>=([\w.]+)', listed)
    assert len(lowest) == listed.count('"') // 2, "a dependency has no lowest version"
    return [f"{name}=={version}" for name, version in lowest if name != "torch"]


def make(folder, wanted):
    """An environment with what is ``wanted``, and with what the present one has for the rest."""
    venv.create(folder, clear=True)
    python = folder / "bin" / "python"
    place = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    below = [path for path in sys.path if Path(path).name == "site-packages"]
    (Path(place.strip()) / "below.pth").write_text("\n".join(below))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--upgrade", "--editable", ROOT]
    subprocess.run([*pip, *wanted], check=True)
    return python


def main():
    """Make both environments, run the tests in each, and say with which versions they ran. Returns the exit status."""
    failed = []
    for name, wanted in {"floor": floors(), "newest": ["transformers"]}.items():
        python = make(ROOT / ".compat" / name, wanted)
        names = [*(one.partition("==")[0] for one in floors()), "tokenizers", "torch"]
        versions = f"import importlib.metadata as m; print(*(f'{{n}} {{m.version(n)}}' for n in {names}), sep=', ')"
        print(f"{name}: {subprocess.check_output([python, '-c', versions], text=True).strip()}", flush=True)
        files = [f"tests/{one}.py" for one in TESTS]
        if subprocess.run([python, "-m", "pytest", "-q", *files], cwd=ROOT).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "passed with both")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())

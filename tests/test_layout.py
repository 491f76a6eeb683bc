"""Each file of the product has a test file of its name in the same place under ``tests/``.

editbench/<file>.py            tests/test_<file>.py
editbench/<package>/<file>.py  tests/<package>/test_<file>.py
methods/<name>/<file>.py       tests/methods/<name>/test_<file>.py
"""

from pathlib import Path

from tests.compat import TESTS
from tests.docs.pages import tomllib

ROOT = Path(__file__).parent.parent
EXCEPTIONS = {
    "editbench/cli.py": "commands run in processes: tests/commands/test_cli.py",
    "editbench/results/schema.py": "types of rows, without code; the results' test files read them",
    "methods/unedited/config.py": "a dataclass without fields",
}
"""By file: why it has no test file of its name."""


def product_files() -> dict[str, Path]:
    """By path of a product file: the test file of its name."""
    files = [file.relative_to(ROOT) for top in ("editbench", "methods") for file in (ROOT / top).rglob("*.py")]
    return {
        file.as_posix(): ROOT / "tests" / _place(file.parent) / f"test_{file.name}"
        for file in files
        if file.name != "__init__.py"
    }


def _place(folder: Path) -> Path:
    return folder.relative_to("editbench") if folder.parts[0] == "editbench" else folder


def test_each_product_file_has_a_test_file_of_its_name() -> None:
    missing = {file: test for file, test in product_files().items() if not test.exists()}
    assert {file: str(test.relative_to(ROOT)) for file, test in missing.items() if file not in EXCEPTIONS} == {}


def test_each_exception_is_still_one() -> None:
    files = product_files()
    assert [file for file in EXCEPTIONS if file not in files] == []  # files that are gone
    assert [file for file in EXCEPTIONS if files[file].exists()] == []  # files that have a test file now
    assert all(EXCEPTIONS.values())


def test_the_wheel_has_every_package() -> None:
    """They are listed, since `methods/` and `conf/` become part of `editbench`."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"])
    found = {file.parent.relative_to(ROOT) for top in ("editbench", "methods") for file in (ROOT / top).rglob("*.py")}
    names = {".".join(path.parts if path.parts[0] == "editbench" else ("editbench", *path.parts)) for path in found}
    assert listed - {"editbench.conf"} == names


def test_the_tests_with_other_versions_are_there() -> None:
    assert [name for name in TESTS if not (ROOT / "tests" / f"{name}.py").exists()] == []

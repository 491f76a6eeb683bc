"""Links of the documentation lead somewhere, every page is in the menu, and the site builds."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from editbench import plugins
from tests.docs.pages import FENCE, PAGES, ROOT, TEXTS


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
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
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
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M)
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


@pytest.mark.slow
def test_the_site_has_every_page_and_loads_nothing_from_a_network(site):
    for page in pages_in_nav():
        html = (site / page).with_suffix(".html").read_text(encoding="utf-8")
        assert "--8&lt;--" not in html
        assert not re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=[\"']?(?:https?:)?//", html)
        assert not re.findall(r"<link[^>]*\shref=[\"']?(?:https?:)?//", html)
    assert "Meng, Bau, Andonian" in (site / "methods" / "rome.html").read_text(encoding="utf-8")
    assert (site / "search" / "search_index.json").stat().st_size > 10_000

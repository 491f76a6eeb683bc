"""Fixtures: reports opened in a real browser, Chromium, driven by selenium, both without a network."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager

import pytest

from editbench.results.leaderboard import collect_folders
from editbench.results.report import write_report
from tests.results.runs import plain_probe, write_run

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'editbench[dev]'")
pytest.importorskip("plotly", reason="the report needs plotly: pip install 'editbench[plots]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("chromium and chromedriver are not installed", allow_module_level=True)

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

from tests.results.report.browser_page import Page  # noqa: E402

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1300,1000"),
)
HOSTILE = '</script><img src=x onerror="window.hacked=1"> <b>%{x} $x^2$ &amp; {{y}}'
BACKWARDS = "\u202egnihtemos \u2028 \u0007 \ud800"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Six runs: three that differ, one that failed, one without checkpoints, and a hostile one."""
    root = tmp_path_factory.mktemp("results")
    write_run(root, "rome-0", method="rome", rate=0.9, evaluate_at=(2, 4, 6))
    write_run(root, "rome-1", method="rome", rate=0.7, evaluate_at=(2, 4, 6), seed=1)
    write_run(root, "memit-0", method="memit", rate=0.5, edits=12)
    write_run(root, "nse-0", method="nse", rate=0.6, probe=changing_probe)
    write_run(root, "scen-0", method="scen", status="failed")
    write_run(root, "hostile", method=HOSTILE, probe=hostile_probe)
    (root / "hostile").rename(root / 'x<img src=x onerror="window.hacked=1">')  # no run may be named so
    write_report(collect_folders(root), root / "report.html", title=HOSTILE)
    return root / "report.html"


def changing_probe(kind, where):
    probe = plain_probe(kind, where)
    if kind == "rewrite":
        return {**probe, "before": "Italian"}  # a change that was wanted
    return {**probe, "answer": "Latin"} if kind == "locality" and where.startswith("3.") else probe


def hostile_probe(kind, where):
    return {**plain_probe(kind, where), "prompt": f"{HOSTILE} {where}", "answer": BACKWARDS, "target": "long" * 50_000}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Runs over θ, with two seeds; over lists of layers; over numbers of edits; and over a hostile setting."""
    root = tmp_path_factory.mktemp("studies")
    for theta in (0.5, 0.65, 0.8):
        for seed in (0, 1):
            settings = {"theta": theta, "layer": 1}
            write_run(root, f"scen-{theta}-{seed}", method="scen", seed=seed, settings=settings, evaluate_at=(2, 4))
    write_run(root, "scen-0.65-layer-2", method="scen", settings={"theta": 0.65, "layer": 2})
    write_run(root, "scen-failed", method="scen", settings={"theta": 0.9, "layer": 1}, status="failed")
    for layers in ([0], [0, 1]):
        write_run(root, f"memit-{len(layers)}", method="memit", settings={"layers": layers})
    for edits in (1, 10, 100):
        write_run(root, f"rome-{edits}", method="rome", edits=edits)
    for value in ("<b>1</b>", "<i>2</i>"):
        write_run(root, f"hostile-{value[3]}", method="hostile", settings={HOSTILE: value})
    write_report(collect_folders(root), root / "report.html")
    return root / "report.html"


@pytest.fixture(scope="module")
def collapses(tmp_path_factory):
    """Runs over numbers of edits, and over θ with two seeds; of each the best one collapsed."""
    root = tmp_path_factory.mktemp("collapses")
    collapsed = {"edits": 4, "low": 3, "condition": "nonfinite"}
    for edits in (2, 8, 20):
        write_run(root, f"rome-{edits}", edits=edits, evaluate_at=(2,), rate=0.5)
    write_run(root, "rome-50", edits=50, rate=1, collapsed=collapsed)
    write_run(root, "scen-0.5-0", method="scen", settings={"theta": 0.5}, rate=0.4)
    write_run(root, "scen-0.5-1", method="scen", settings={"theta": 0.5}, rate=1, seed=1, collapsed=collapsed)
    write_run(root, "scen-0.8-0", method="scen", settings={"theta": 0.8}, rate=0.4)
    write_run(root, "nse-5", method="nse", rate=0.1)
    write_run(root, "nse-6", method="nse", settings={"layer": 6}, collapsed=collapsed)
    write_report(collect_folders(root), root / "report.html")
    return root / "report.html"


@pytest.fixture
def collapse(browser, collapses):
    """The report on runs that collapsed, freshly opened."""
    with opened(browser, collapses) as page:
        yield page


@pytest.fixture
def page(browser, report):
    """The report, freshly opened."""
    with opened(browser, report) as page:
        yield page


@pytest.fixture
def study(browser, studies):
    """The report on studies, freshly opened."""
    with opened(browser, studies) as page:
        yield page


@contextmanager
def opened(browser, report):
    """A report's page; afterwards there must be no complaint and no request but for the file."""
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(report.as_uri())
    WebDriverWait(browser, 30).until(lambda one: one.find_elements(By.CSS_SELECTOR, "#ages-chart .heatmaplayer image"))
    yield Page(browser)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert {url for url in sent if not url.startswith(("data:", "blob:"))} == {report.as_uri()}
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0

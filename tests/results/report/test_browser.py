"""The report in a real browser: Chromium, driven by selenium, both without a network."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest

from editbench.results.intervals import over_seeds
from editbench.results.leaderboard import collect_folders
from editbench.results.report import write_report
from editbench.results.schema import SHARE
from tests.results.runs import plain_probe, write_run

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'editbench[dev]'")
pytest.importorskip("plotly", reason="the report needs plotly: pip install 'editbench[plots]'")
pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("chromium and chromedriver are not installed", allow_module_level=True)

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402
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


def test_a_heading_sorts_in_both_directions(page):
    assert page.sorting("score") == "descending" and page.sorting("run") is None
    page.heading("reliability").click()
    values = [text.split()[0] for text in page.column("reliability")]
    assert page.sorting("reliability") == "descending" and page.sorting("score") is None
    numbers = [float(value) for value in values if value != "—"]
    assert numbers == sorted(numbers, reverse=True) and values[-1] == "—"
    page.heading("reliability").click()
    values = [text.split()[0] for text in page.column("reliability")]
    assert page.sorting("reliability") == "ascending"
    assert [float(value) for value in values[:-1]] == sorted(numbers) and values[-1] == "—"
    page.heading("edits").click()
    assert page.column("edits")[0] == "12"
    page.heading("run").click()
    assert page.texts("#table tbody .open")[1:] == ["memit", "nse", "rome", "scen"]


def test_the_filter_holds_for_table_and_charts(page):
    assert len(page.runs()) == 5 and page.one("#count").text == "6 of 6 runs"
    page.one("#filter").send_keys("ROME tiny")
    assert page.runs() == ["rome-0\nrome-1"] and page.one("#count").text == "2 of 6 runs"
    assert page.legend("curves-chart") == ["rome · edits 8"]
    page.each_seed()
    assert sorted(page.runs()) == ["rome-0", "rome-1"]
    assert sorted(page.legend("curves-chart")) == ["rome · edits 8 · seed 0", "rome · edits 8 · seed 1"]
    assert len(page.all("#tradeoff-chart .points path")) == 2
    page.choose("select[data-column=status]", "failed")
    assert page.texts("#table tbody td") == ["No run matches the filter."]
    assert "Nothing to show." in page.one("#curves-chart").text
    page.one("#filter").clear()
    page.one("#filter").send_keys(" ")
    assert page.runs() == ["scen-0"] and "CUDA out of memory" in page.one("#table tbody").text


def test_what_all_runs_share_is_told_once(page):
    shared = "model tiny, dataset counterfact, protocol default, mode sequential, batch size 1"
    assert page.one("#common").text == f"All runs: {shared}."
    assert "model" not in page.texts("#table thead th")


# --- charts ---


def test_hovering_shows_a_label(page):
    page.one("#filter").send_keys("rome-0")
    label = page.hover(page.all("#tradeoff-chart .points path")[0])
    assert "rome · edits 8 · seed 0" in label and "s/edit 2.50" in label and "bytes/edit 4,096" in label
    page.choose("#curves-measure", "plain PPL")
    label = page.hover(page.all("#curves-chart .points path")[1])
    assert "scored after, 2 edits: 4.040" in label


def test_the_heat_map_follows_its_selects(page):
    page.choose("#ages-run", "rome · edits 8 · seed 1")
    assert "age: edits made since" in page.one("#ages-chart").text and "grow older" in page.one("#ages-caption").text
    label = page.hover(page.one("#ages-chart .nsewdrag"))
    assert "edits at" in label and "score" in label
    page.choose("#ages-run", "memit · edits 12 · seed 0")
    page.choose("#ages-measure", "locality")
    assert "at the end" in page.one("#ages-chart").text and "no evaluation points" in page.one("#ages-caption").text


def test_no_button_sends_a_chart_anywhere(page):
    buttons = {button.get_attribute("data-title") for button in page.all(".modebar-btn")}
    assert buttons == {"Download plot as a PNG", "Zoom", "Pan", "Reset axes"}
    assert page.all("a[href^=http]") == []


# --- studies ---


def test_every_measure_can_be_drawn_over_the_edits(page):
    headings = [one.get_attribute("label") for one in page.all("#curves-measure optgroup")]
    kinds = ["rewrite", "paraphrase", "locality", "unrelated", "plain", "ability", "drift"]
    assert headings == ["Headline", "Together", *kinds]
    assert not [name for name in page.choices("#curves-measure") if name.endswith(("questions", "tokens"))]
    assert not page.one("#curves-run").is_displayed()
    page.one("#filter").send_keys("rome-0")
    page.choose("#curves-measure", "drift.weight_change")
    x, y, *_ = page.lines("curves-chart")["rome · edits 8"]
    assert (x, y) == ([2, 4, 6, 8], [0.02, 0.04, 0.06, 0.08])
    page.choose("#curves-measure", "ability.pocket.recall")
    assert page.lines("curves-chart")["rome · edits 8"][1] == [1, 0.98, 0.96, 0.94, 0.92]
    page.choose("#curves-measure", "unrelated.activation")
    assert page.lines("curves-chart")["rome · edits 8"][1] == [0, 0.002, 0.004, 0.006, 0.008]


def test_all_kinds_of_prompts_are_drawn_together_for_one_run(page):
    page.choose("#curves-measure", "activation: edits, paraphrases, locality, unrelated")
    assert page.one("#curves-run").is_displayed()
    page.choose("#curves-run", "rome · edits 8 · seed 1")
    names = ["edits", "paraphrases", "locality", "unrelated"]
    assert page.legend("curves-chart") == names
    lines = page.lines("curves-chart")  # the later of two lines of one name: at checkpoints and the end
    assert lines["locality"][:2] == [[2, 4, 6, 8], [0.002, 0.004, 0.006, 0.008]]
    assert lines["unrelated"][0] == [0, 2, 4, 6, 8] and lines["edits"][1] == [0.9, 0.9, 0.9, 0.9]
    looks = page.looks("curves-chart")
    assert len(looks) == 7 and len({colour for colour, _, _ in looks}) == len({symbol for _, symbol, _ in looks}) == 4
    page.choose("#curves-measure", "score")
    assert not page.one("#curves-run").is_displayed() and len(page.legend("curves-chart")) == 5


def test_where_no_setting_varies_there_is_no_study(page):
    assert not page.one("#study").is_displayed() and not page.one("nav a[href='#study']").is_displayed()


def test_final_measures_are_drawn_over_a_setting(study):
    assert study.one("#study").is_displayed() and study.one("nav a[href='#study']").is_displayed()
    swept = {"method.theta", "method.layer", "method.layers", "stream.edits", f"method.{HOSTILE}"}
    assert set(study.choices("#study-setting")) == swept
    study.choose("#study-setting", "method.theta")
    study.each_seed()
    lines = study.lines("study-chart")  # with layer 2 there is but one point
    assert len(lines) == 6 and set(study.looks("study-chart")[0]).isdisjoint(study.looks("study-chart")[1])
    x, y, down, up = lines["scen · layer 1 · reliability"]
    assert x == [0.5, 0.65, 0.8]  # not the run that failed
    (one, other) = (float(study.cell(f"scen-0.5-{seed}", "reliability")) for seed in (0, 1))
    assert y[0] == pytest.approx((one + other) / 2, abs=1e-3)
    figures = [study.column("reliability")[study.runs().index(f"scen-0.5-{seed}")] for seed in (0, 1)]
    means, lows, highs = np.array([[float(n) for n in re.findall(r"[\d.]+", text)] for text in figures]).T
    low, high = over_seeds(means, lows, highs, SHARE)
    assert (y[0] - down[0], y[0] + up[0]) == pytest.approx((low, high), abs=5e-3)
    alone = lines["scen · layer 2 · reliability"]
    assert alone[0] == [0.65] and alone[2:] == [[0], [0]]
    study.choose("#study-measure", "score")
    assert list(study.lines("study-chart")) == ["scen · layer 1", "scen · layer 2"]
    study.one("#filter").send_keys("memit")
    assert study.lines("study-chart") == {} and "Nothing to show." in study.one("#study-chart").text
    study.one("#study-setting").send_keys("method.layers")
    assert study.lines("study-chart")["memit"][0] == ["[0, 1]", "[0]"]


def test_numbers_of_edits_lie_on_a_log_scale(study):
    study.choose("#study-setting", "stream.edits")
    study.choose("#study-measure", "activation: edits, paraphrases, locality, unrelated")
    axis = "return document.getElementById('study-chart').layout.xaxis.type"
    assert study.browser.execute_script(axis) == "log"
    lines = study.lines("study-chart")
    assert list(lines) == [f"rome · {kind}" for kind in ("edits", "paraphrases", "locality", "unrelated")]
    assert lines["rome · unrelated"][:2] == [[1, 10, 100], [0.001, 0.01, 0.1]]
    label = study.hover(study.all("#study-chart .points path")[1])
    assert "stream.edits 10: 0.900" in label


def test_a_study_has_curves_that_can_be_told_apart(study):
    study.one("#filter").send_keys("scen-0")
    assert "scen · layer 1 · theta 0.5 · edits 8" in study.legend("curves-chart")
    colours = {colour for colour, _, _ in study.looks("curves-chart")}
    assert len(colours) == 4  # three θ, and one of them in another layer


def test_a_hostile_setting_stays_text(study):
    study.choose("#study-setting", f"method.{HOSTILE}")
    chart = study.one("#study-chart").text
    assert HOSTILE in chart and "<b>1</b>" in chart and "<i>2</i>" in chart
    assert study.all("img") == [] and study.all("main b") == []
    assert study.browser.execute_script("return window.hacked") is None


# --- records ---


def test_a_run_s_name_opens_its_records(page):
    page.open("nse-0")
    assert Select(page.one("#records-run")).first_selected_option.text == "nse · edits 8 · seed 0"
    assert page.browser.switch_to.active_element == page.one("#records-run")
    assert page.one("#records-count").text == "8 of 8 records"
    page.choose("#records-kind", "other answers changed")
    assert page.one("#records-count").text == "1 of 8 records"
    assert page.one("#record h3").text == "Edit 4, record 1003"
    cells = page.texts("#record tbody tr:nth-child(4) td")
    assert "changed" not in page.texts("#record tbody tr:nth-child(1) td")[4]
    assert cells[0] == "locality" and cells[2:4] == ["French", "French"]
    assert cells[4].split() == ["Latin", "✓", ",", "as", "wanted", "changed"]
    page.choose("#records-kind", "all records")
    page.one("#records-filter").send_keys("number 5.1")
    assert page.texts("#records-list bdi") == [f"{plain_probe('rewrite', '5.0')['prompt']} → French"]


def test_the_keyboard_is_enough(page):
    ActionChains(page.browser).send_keys(Keys.TAB).perform()
    assert page.browser.switch_to.active_element.text == "Skip to the table of runs"
    page.heading("locality").send_keys(Keys.ENTER)
    assert page.sorting("locality") == "descending"
    assert page.browser.switch_to.active_element.text == "locality"
    page.heading("locality").send_keys(Keys.SPACE)
    assert page.sorting("locality") == "ascending"
    assert page.style("#table thead button:focus", "outlineStyle") == "solid"
    page.all("#records-list button")[0].send_keys(Keys.ARROW_DOWN)
    assert page.one("#records-list [aria-current]") == page.browser.switch_to.active_element
    assert page.one("#records-list [aria-current]").text.startswith("2.")
    page.one("#provenance details:first-of-type summary").send_keys(Keys.ENTER)
    assert "dataset.hash" in page.texts("#provenance dt")


# --- looks ---

CONTRASTS = """
const channels = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
function behind(one) {
  const colour = channels(getComputedStyle(one).backgroundColor);
  return colour[3] === 0 ? behind(one.parentElement) : colour;
}
return [...document.querySelectorAll("body *:not(script, style, svg *)")]
  .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
  .map((one) => {
    const [a, b] = [light(channels(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), one.tagName + "." + one.className + ": " + one.textContent.slice(0, 30)];
  });
"""
LABEL_COLOUR = "return getComputedStyle(document.querySelector('#curves-chart .xtick text')).fill"


def test_texts_have_contrast_in_light_and_dark(page):
    light, label = page.browser.execute_script(CONTRASTS), page.browser.execute_script(LABEL_COLOUR)
    background = page.style("section", "backgroundColor")
    with page.dark():
        WebDriverWait(page.browser, 10).until(lambda browser: browser.execute_script(LABEL_COLOUR) != label)
        dark = page.browser.execute_script(CONTRASTS)
        assert page.style("section", "backgroundColor") != background
    assert len(light) == len(dark) > 100
    assert min(light)[0] >= 4.5, min(light)
    assert min(dark)[0] >= 4.5, min(dark)


SECTIONS = ("runs", "curves", "study", "tradeoff", "ages", "records")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1366, 768)])
def test_on_a_phone_and_a_laptop_nothing_overlaps_or_is_cut(study, width, height):
    with study.window(width, height):
        WebDriverWait(study.browser, 10).until(
            lambda browser: (
                browser.execute_script("return document.documentElement.scrollWidth") <= width
                and study.box("#curves-chart .main-svg:first-child")[2] <= width
            )
        )
        for name in SECTIONS:
            left, _, right, _ = study.box(f"#{name}")
            assert 0 <= left < right <= width, name
        for name in ("curves", "study", "tradeoff"):
            plot, legend = study.box(f"#{name}-chart .main-svg:first-child"), study.box(f"#{name}-chart ~ .legend")
            assert plot[3] <= legend[1] + 1 and legend[3] - legend[1] >= 15, name  # the legend is below
            axis, title = study.box(study.all(f"#{name}-chart .xtick text")[0]), study.box(f"#{name}-chart .xtitle")
            assert axis[3] <= title[1] + 1 and title[3] <= plot[3] + 1, name
            entries = [study.box(one) for one in study.all(f"#{name}-chart ~ .legend button")]
            assert all(0 <= left < right <= width for left, _, right, _ in entries), name
            assert not any(overlap(one, other) for i, one in enumerate(entries) for other in entries[:i]), name


def overlap(one, other):
    left, top, right, bottom = (f(a, b) for f, a, b in zip((max, max, min, min), one, other, strict=True))
    return left < right and top < bottom


def test_the_first_column_stays_and_the_last_can_be_reached(study):
    with study.window(390, 844):
        study.browser.execute_script("document.querySelector('#runs .scroll').scrollLeft = 10000")
        table = study.box("#runs .scroll")
        first = study.box("#table tbody tr:first-child > :first-child")
        last = study.box("#table tbody tr:first-child > :last-child")
        assert first[0] == pytest.approx(table[0], abs=2) and first[2] - first[0] < 0.45 * 390
        assert first[2] <= last[0] + 1 and last[2] <= table[2] + 1


# --- seeds, methods, models ---


def test_seeds_are_one_line_with_a_band(study):
    study.one("#filter").send_keys("scen-0.5")
    assert study.runs() == ["scen-0.5-0\nscen-0.5-1"] and study.column("seed") == ["0, 1"]
    script = "return document.getElementById('curves-chart').data.map((t) => [t.fill ?? '', t.x, t.y, t.name])"
    bands = [line for line in study.browser.execute_script(script) if line[0] == "toself"]
    lines = [line for line in study.browser.execute_script(script) if line[0] == ""]
    assert len(bands) == len(lines) == 2 and len({name for *_, name in lines}) == 1  # right after, and later
    _, x, y, _ = bands[0]
    assert x == [*lines[0][1], *reversed(lines[0][1])]
    half = len(y) // 2
    assert all(low <= one <= high for low, one, high in zip(y[half:][::-1], lines[0][2], y[:half], strict=True))


def test_a_legend_s_entry_hides_its_lines_and_shows_them_again(page):
    entry = page.all("#curves-chart ~ .legend button")[0]
    shown = "return document.getElementById('curves-chart').data.filter((t) => t.visible !== false).length"
    before = page.browser.execute_script(shown)
    entry.click()
    assert page.browser.execute_script(shown) < before and entry.get_attribute("aria-pressed") == "false"
    entry.click()
    assert page.browser.execute_script(shown) == before


def test_the_page_opens_on_the_best_finished_run(page):
    page.each_seed()
    finished = [run for run in page.runs() if run != "scen-0"]
    best = max(finished, key=lambda run: float(page.cell(run, "score")))
    chosen = Select(page.one("#records-run")).first_selected_option.get_attribute("value")
    assert page.browser.execute_script(f"{DATA} return data.runs[{chosen}].cells.run") == best
    assert Select(page.one("#ages-run")).first_selected_option.get_attribute("value") == chosen


DATA = "const data = JSON.parse(document.getElementById('data').textContent);"


def test_axes_use_their_range(page):
    page.one("#filter").send_keys("rome")
    low, high = page.browser.execute_script("return document.getElementById('tradeoff-chart').layout.xaxis.range")
    ends = page.browser.execute_script(
        "const [t] = document.getElementById('tradeoff-chart').data;"
        "return [t.x[0] - t.error_x.arrayminus[0], t.x[0] + t.error_x.array[0]]"
    )
    assert low < ends[0] and ends[1] < high and high - low < 1.2 * (ends[1] - ends[0])


# --- hostile data ---


def test_hostile_texts_stay_texts(page):
    label = page.hover(next(path for path in page.all("#tradeoff-chart .points path")))
    assert label
    (name,) = [run for run in page.runs() if run.startswith("x")]
    assert name == 'x<img src=x onerror="window.hacked=1">'
    page.open(name)
    text = page.browser.execute_script("return document.querySelector('#record').textContent.toWellFormed()")
    assert HOSTILE in text and BACKWARDS.replace("\ud800", "\ufffd") in text and "more characters" in text
    assert page.one("h1").text == HOSTILE
    assert any(HOSTILE in text for text in page.legend("curves-chart"))
    page.one("#filter").send_keys("window.hacked")
    assert HOSTILE in page.hover(page.one("#tradeoff-chart .points path"))
    assert page.all("img") == [] and page.all("main b") == []
    assert page.browser.execute_script("return window.hacked") is None
    directions = page.browser.execute_script(
        "return [...document.querySelectorAll('bdi')].map((one) => getComputedStyle(one).unicodeBidi)"
    )
    assert set(directions) <= {"isolate", "plaintext", "isolate-override"}

"""The report in a real browser: what its table, charts, studies and records do."""

from __future__ import annotations

import re

import numpy as np
import pytest

from editbench.results.intervals import over_seeds
from editbench.results.schema import SHARE
from tests.results.runs import plain_probe

pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'editbench[dev]'")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

from tests.results.report.opened_reports import (  # noqa: E402
    BACKWARDS,
    HOSTILE,
    browser,
    collapse,
    collapses,
    page,
    report,
    studies,
    study,
)

__all__ = ["browser", "collapse", "collapses", "page", "report", "studies", "study"]  # fixtures
pytestmark = pytest.mark.slow


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


def test_the_trade_off_is_drawn_between_any_two_figures(page):
    """Costs have a log axis; a run without the figure has no point."""
    axes = "return ['xaxis', 'yaxis'].map((one) => document.getElementById('tradeoff-chart').layout[one])"
    across, up = page.browser.execute_script(axes)
    assert (across["title"]["text"], up["title"]["text"]) == ("locality", "reliability")
    points = len(page.all("#tradeoff-chart .points path"))
    page.choose("#tradeoff-across", "s/edit")
    page.choose("#tradeoff-up", "score")
    across, up = page.browser.execute_script(axes)
    assert (across["title"]["text"], across["type"], up["title"]["text"]) == ("s/edit", "log", "score")
    assert len(page.all("#tradeoff-chart .points path")) == points > 0
    page.choose("#tradeoff-across", "s/question")
    assert not page.all("#tradeoff-chart .points path") and "Nothing to show." in page.one("#tradeoff-chart").text


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


def test_runs_that_collapsed_are_in_no_line_over_a_setting(collapse):
    assert set(collapse.choices("#study-setting")) == {"stream.edits", "method.theta"}  # not the layer
    collapse.choose("#study-setting", "stream.edits")
    collapse.choose("#study-measure", "reliability")
    assert collapse.lines("study-chart")["rome"][0] == [2, 8, 20]
    collapse.choose("#study-setting", "method.theta")
    [(x, y, *_)] = collapse.lines("study-chart").values()
    collapse.each_seed()
    assert x == [0.5, 0.8] and y[0] == pytest.approx(float(collapse.cell("scen-0.5-0", "reliability")), abs=1e-3)
    assert [line[:2] for line in collapse.lines("study-chart").values()] == [[x, y]]
    assert "1 of 2 seeds" in collapse.hover(collapse.all("#study-chart .points path")[0])


def test_the_trade_off_says_what_collapsed(collapse):
    collapse.each_seed()
    script = "return document.getElementById('tradeoff-chart').data.map((trace) => [trace.name, trace.text[0]])"
    said = {name for name, text in collapse.browser.execute_script(script) if "collapsed at 4" in text}
    assert len(said) == 3 and any("edits 50" in name for name in said)


def test_a_run_that_collapsed_is_best_only_where_no_other_finished(collapse):
    def opened():
        return Select(collapse.one("#records-run")).first_selected_option.text

    assert "edits 50" not in opened() and "seed 1" not in opened()
    collapse.open("scen-0.5-0\nscen-0.5-1")
    assert "scen" in opened() and "seed 0" in opened()
    collapse.open("nse-6")
    assert "nse" in opened()


def test_a_line_over_a_setting_is_the_same_where_seeds_are_shown_alone(study):
    study.choose("#study-setting", "method.theta")
    together = study.lines("study-chart")
    study.each_seed()
    assert study.lines("study-chart") == together


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

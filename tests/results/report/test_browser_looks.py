"""The report in a real browser: contrast, boxes on a phone and a laptop, seeds and legends, axes."""

from __future__ import annotations

import pytest

pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'editbench[dev]'")
from selenium.webdriver.support.select import Select  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

from tests.results.report.opened_reports import (  # noqa: E402
    browser,
    page,
    report,
    studies,
    study,
)

__all__ = ["browser", "page", "report", "studies", "study"]  # fixtures
pytestmark = pytest.mark.slow

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
HEADINGS = """
return [...document.querySelectorAll("#table thead button")].map((one) => {
  const range = document.createRange();
  range.selectNodeContents(one);
  return [one.textContent, range.getClientRects().length];
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


def test_many_runs_do_not_make_the_page_endless(study):
    study.browser.execute_script("document.querySelectorAll('#provenance-list details').forEach((d) => d.open = true)")
    box = study.box("#provenance-list")
    assert box[3] - box[1] <= 34 * 16 + 1
    assert study.box(study.all("#provenance-list details")[-1])[3] > box[3]  # the rest is scrolled to


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


def test_no_heading_is_broken_inside_a_word(study):
    with study.window(390, 844):
        found = study.browser.execute_script(HEADINGS)
    assert len(found) > 5 and all(lines <= len(text.split()) for text, lines in found)


# --- seeds, methods, models ---


def test_seeds_are_one_line_with_a_band(study):
    script = "return document.getElementById('curves-chart').data.map((t) => [t.fill ?? '', t.x, t.y, t.name])"
    assert len(study.legend("curves-chart")) > 5
    assert {fill for fill, *_ in study.browser.execute_script(script)} == {""}  # bands of so many would hide each other
    study.one("#filter").send_keys("scen-0.5")
    assert study.runs() == ["scen-0.5-0\nscen-0.5-1"] and study.column("seed") == ["0, 1"]
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

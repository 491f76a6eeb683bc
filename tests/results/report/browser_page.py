"""The report's page as a reader finds it: its table, selects and charts, through selenium."""

from __future__ import annotations

from contextlib import contextmanager

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait


class Page:
    """What the tests do with the page."""

    def __init__(self, browser):
        self.browser = browser

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        (element,) = self.all(selector)
        return element

    def texts(self, selector):
        return [element.text for element in self.all(selector)]

    def runs(self):
        """Folders of the lines of the table; of several seeds those of each, line by line."""
        return [button.get_attribute("title") for button in self.all("#table tbody .open")]

    def legend(self, chart):
        return self.texts(f"#{chart} ~ .legend button")

    def each_seed(self):
        self.one("#seeds").click()

    def open(self, run):
        next(button for button in self.all(".open") if button.get_attribute("title") == run).click()

    def box(self, selector):
        """Left, top, right and bottom of an element that is seen, in the window."""
        script = "const b = arguments[0].getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]"
        element = self.one(selector) if isinstance(selector, str) else selector
        assert element.is_displayed(), selector
        return self.browser.execute_script(script, element)

    @contextmanager
    def window(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            yield
        finally:
            self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def column(self, title):
        titles = self.texts("#table thead th")
        return self.texts(f"#table tbody tr > :nth-child({titles.index(title) + 1})")

    def cell(self, run, title):
        """The figure of a run in the table, without its interval."""
        return self.column(title)[self.runs().index(run)].split()[0]

    def heading(self, title):
        return next(button for button in self.all("#table thead button") if button.text == title)

    def sorting(self, title):
        return self.heading(title).find_element(By.XPATH, "..").get_attribute("aria-sort")

    def choose(self, selector, text):
        Select(self.one(selector)).select_by_visible_text(text)

    def choices(self, selector):
        return [option.text for option in Select(self.one(selector)).options]

    def lines(self, chart):
        """What plotly draws: name to (x, y, how far the intervals reach down, and up)."""
        script = (
            "return document.getElementById(arguments[0]).data"
            ".map((t) => [t.name, t.x, t.y, t.error_y?.arrayminus, t.error_y?.array])"
        )
        return {name: line for name, *line in self.browser.execute_script(script, chart)}

    def looks(self, chart):
        """Colour, symbol and dash of each line."""
        script = (
            "return document.getElementById(arguments[0]).data"
            ".filter((t) => t.marker).map((t) => [t.line.color, t.marker.symbol, t.line.dash])"
        )
        return self.browser.execute_script(script, chart)

    def hover(self, element):
        """The text of the label that plotly shows there."""
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.browser).move_to_element_with_offset(element, 1, 0).move_to_element(element).perform()
        return WebDriverWait(self.browser, 10).until(
            lambda _: "\n".join(text for text in self.texts(".hoverlayer .hovertext") if text)
        )

    @contextmanager
    def dark(self):
        for value in ("dark", ""):
            features = [{"name": "prefers-color-scheme", "value": value}]
            self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            if value:
                yield

    def style(self, selector, name):
        return self.browser.execute_script(
            "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name
        )


# --- the table ---

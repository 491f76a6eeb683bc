"""Report: one HTML file about some runs, which works without a network.

In the browser, data becomes text nodes and nothing else, and the page's content security policy allows these scripts
only, and no request. `page.js` starts the other scripts.
"""

from editbench.results.report.page import write_report

__all__ = ["write_report"]

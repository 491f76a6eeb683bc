"""Report: one HTML file about some runs, which works without a network.

In the browser, data becomes text nodes only; the page's content security policy allows these scripts and no request.
"""

from editbench.results.report.page import write_report

__all__ = ["write_report"]

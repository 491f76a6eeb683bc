"""The report: one HTML file with everything about some runs, which works without a network.

    page.py      data, style, scripts and plotly to one page: `write_report`
    run_data.py  one run: its table row, provenance, and scored rows
    study.py     the settings in which runs of one method differ
    series.py    scored rows to curves over the number of edits, and to heat maps
    records.py   scored rows to the record browser's data, bounded in size
    page.html    the frame
    page.css     the looks
    *.js         what runs in the browser: dom.js, table.js, measures.js, study.js, charts.js, records.js, then page.js,
                 which starts them

In the browser, data becomes text nodes and nothing else, and the page's content security policy allows these scripts
only, and no request.
"""

from editbench.results.report.page import write_report

__all__ = ["write_report"]

"""Results: what a run leaves behind, and the tables that are made from it.

    schema.py       every stored row and every CSV column, in one place
    strict_json.py  rows to strict JSON and back; NaN and infinity become null and are named
    files.py        atomic writes, whole-line appends, the lock
    store.py        one run folder: `RunFolder`
    measures.py     rows to means, intervals and scores: `summarise`
    leaderboard.py  many run folders to one table and one CSV: `collect`, `where`, `write_csv`
    identity.py     what decides a run's numbers: which runs are seeds of one thing, which are comparable
    seeds.py        runs that differ in their seed only to one row: `group`
    significance.py two methods on the same records: `compare_runs`; for tables: `marks`
    tables.py       that table for terminals and Markdown: `print_table`, `to_markdown`
    latex.py        and for papers: `to_latex`
    report/         many run folders to one HTML file: `write_report`
    reference.py    that table against committed reference figures: `compare`

Only the store is imported here, which needs nothing but the standard library.
"""

from editbench.files import ResultsError
from editbench.results.run_folder import RunFolder

__all__ = ["ResultsError", "RunFolder"]

"""Results: a run's folder, and the tables, comparisons and reports made from many of them.

Importing this package needs nothing but the standard library.
"""

from editbench.files import ResultsError
from editbench.results.run_folder import RunFolder

__all__ = ["ResultsError", "RunFolder"]

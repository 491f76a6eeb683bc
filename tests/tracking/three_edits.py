"""A run of three edits, shown by a service's real client."""

from editbench.tracking import RunObserver, TrackerConfig, open_tracker
from tests.tracking.test_observer import HEADLINE, score, texts, tracked

RELIABILITY = [(1, 1.0), (2, 0.5), (3, 0.5)]


def show_three_edits(folder, **settings):
    """Three edits with reliability 1, 0 and a half, shown by the real client."""
    settings = TrackerConfig(**{"finish_seconds": 60.0, "tags": ["mine"], **settings})
    with RunObserver(open_tracker(settings), HEADLINE, memory=lambda: {"peak_rss_bytes": 9}) as observer:
        observer.start(tracked(folder))
        observer.rows([texts("plain", 0, "before", perplexity=3.0)])
        for i, value in enumerate((1.0, 0.0, 0.5)):
            observer.edit({"batch": i, "ids": [f"id{i}"], "seconds": 0.5})
            observer.rows([score(i, i + 1, r=value)])
        observer.done({"final": None}, {"edit_seconds": 1.5})

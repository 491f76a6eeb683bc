"""Tables and texts of ``editbench locate``."""

from editbench.layer_search.report import estimate_text


def test_estimates():
    measure = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 4, "nonfinite": 0}
    assert estimate_text(measure) == "0.500 [0.25, 0.75]"
    assert estimate_text(measure, interval=False) == "0.500"
    assert estimate_text(None) == estimate_text({**measure, "mean": None}) == "—"

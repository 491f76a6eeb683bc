"""The submissions in the repository: the honest one is verified, each forged one refused at its level, not before."""

import pytest

from editbench.submission import agreement
from editbench.submission.verify import verify
from tests.submission.make_examples import FORGERIES, PLACE


def test_every_one_but_the_forged_summary_passes_the_seal():
    assert verify(PLACE / "honest/runs/run").status == "verified"
    found = {name: verify(PLACE / "forged" / name / "runs/run").status for name in FORGERIES}
    assert found == {name: "refused" if level == 1 else "verified" for name, level in FORGERIES.items()}


@pytest.mark.slow
@pytest.mark.parametrize("level", [2, 3])
def test_the_honest_one_is_verified(level):
    verdict = verify(PLACE / "honest/runs/run", level, nonce="an example")
    assert (verdict.status, verdict.reasons) == ("verified", [])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, level in FORGERIES.items() if level > 1])
def test_a_forged_one_is_refused_on_any_machine(name, monkeypatch):
    monkeypatch.setattr(agreement, "tolerance_of", lambda *_: ("other", agreement.OTHER_MACHINE))  # the wider one
    verdict = verify(PLACE / "forged" / name / "runs/run", FORGERIES[name], sample=200, nonce="an example")
    assert verdict.status == "refused" and verdict.reasons

"""``hparams=NAME`` in sweeps: methods without such settings are named, and run on their own."""

import pytest

from editbench import compose

SMALL = ["model=pocket", "stream.edits=2"]


def jobs_of(*overrides):
    return [[o for o in job if o not in SMALL] for job in compose.check([*SMALL, *overrides]).jobs]


def test_a_method_without_the_settings_runs_on_its_own_and_a_line_says_so(capsys):
    found = jobs_of("method=rome,unedited", "hparams=published,null")
    assert found == [["method=rome", "hparams=published"], ["method=rome", "hparams=null"], ["method=unedited"]] or (
        found == [*found[:2], ["method=unedited"], ["method=unedited", "hparams=null"]]
    )
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "hparams" in line]
    assert line.startswith("note: unedited has no settings 'published' for pocket (known: none): hparams is left out")


def test_several_of_its_jobs_that_are_alike_are_one():
    assert jobs_of("method=rome,unedited", "hparams=published,by_hand").count(["method=unedited"]) == 1


def test_settings_that_no_method_has_are_refused():
    with pytest.raises(ValueError, match="hparams=published: none are known for unedited"):
        compose.compose([*SMALL, "method=unedited", "hparams=published"])
    assert jobs_of("method=unedited", "hparams=published") == [["method=unedited", "hparams=published"]]

"""``editbench locate`` as a user calls it, on the embedded model."""

import json
import sys

import pytest

from editbench.layer_search.command import _compose, main
from tests.tiny_models import LINES


@pytest.fixture
def locate(tmp_path):
    """Runs the command in a folder of its own; little text will do for the covariance."""
    (tmp_path / "plain.txt").write_text("\n".join(LINES))

    def call(*more):
        given = ["model=pocket", f"model.texts={tmp_path / 'plain.txt'}", f"cache={tmp_path / 'cache'}"]
        given += ["stream.edits=2", "model.templates=['{}']", "method.steps=8"]
        return main([*given, "--samples", "2", "--out", str(tmp_path / "out"), *more])

    call.folder = tmp_path / "out"
    return call


def test_it_measures_prints_writes_and_draws(locate, capsys):
    pytest.importorskip("plotly")
    assert locate("--layers", "0,1") == 0
    printed = capsys.readouterr().out
    assert "causal tracing: indirect effect by layer, 2 records" in printed and "2 single edits" in printed
    assert "by the score of the sweep: layer 0 for ROME, [0] for MEMIT and NSE" in printed
    assert "# methods/rome/hparams/tuned/pocket.yaml\nlayer: 0\nsteps: 8\n" in printed
    assert "# methods/memit/hparams/tuned/pocket.yaml, methods/nse/hparams/tuned/pocket.yaml\nlayers: [0]\n" in printed
    last = printed.strip().splitlines()[-1]
    assert last.startswith("editbench run method=rome method.layer=0 model=pocket model.texts=")
    assert "method.steps=8" in last and "stream.edits" not in last
    facts = json.loads((locate.folder / "locate.json").read_text())
    assert [score["layer"] for score in facts["scores"]] == facts["trace"]["layers"] == [0, 1]
    assert facts["choice"] == {"layer": 0, "layers": [0], "by": "score of the sweep"}
    assert facts["settings"]["steps"] == 8 and set(facts["seconds"]) == {"trace", "sweep"}
    page = (locate.folder / "locate.html").read_text()
    assert page.count("plotly.js v") == 1 and "sweep: single ROME edits" in page
    assert "<script src" not in page and "<link" not in page


def test_tracing_alone_without_plotly(locate, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.io", None)
    locate.folder.mkdir()
    (locate.folder / "locate.html").write_text("of an earlier call")
    assert locate("--trace-only", "--layers", "0-3", "--window", "2") == 0
    printed = capsys.readouterr()
    assert (
        "sweep" not in printed.out and "by the indirect effect of the MLPs at the subject's last token" in printed.out
    )
    assert "plotly is not installed" in printed.err and not (locate.folder / "locate.html").exists()
    facts = json.loads((locate.folder / "locate.json").read_text())
    assert facts["scores"] == [] and facts["trace"]["window"] == 2


def test_where_no_edit_works_no_layer_is_recommended(locate, capsys):
    assert locate("--sweep-only", "--layers", "3", "method.steps=1", "stream.edits=1") == 0
    printed = capsys.readouterr().out
    assert "no layer can be recommended" in printed and "editbench run" not in printed


def test_records_that_do_not_say_what_is_true_are_swept_and_not_traced(locate, capsys):
    given = ["dataset=hallucination", "--layers", "0", "stream.edits=1"]
    assert locate(*given) == 0
    printed = capsys.readouterr()
    assert (
        "no tracing, only the sweep: none of 1 records can be traced (1: the record has no true answer)" in printed.err
    )
    assert "sweep: ROME" in printed.out and "causal tracing" not in printed.out
    assert locate(*given, "--trace-only") == 1
    assert "none of 1 records can be traced" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stream.edit=3"], "did you mean 'stream.edits'"),
        (["pocket"], "'pocket' is not understood"),
        (["method.layer=3"], "--layers"),
        (["method=memit"], "layers are tried with rome, not with method=memit"),
        (["--layers", "0-x"], "--layers 0-x is not understood"),
        (["--layers", "8-4"], "--layers 8-4 holds no layer"),
    ],
)
def test_wrong_use(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_layer_that_does_not_exist(locate, capsys):
    assert locate("--layers", "9") == 1
    assert "layer 9 does not exist: pocket has layers 0 to 5" in capsys.readouterr().err


def test_trace_only_and_sweep_only_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--trace-only", "--sweep-only"])
    assert stopped.value.code == 2


def test_single_edits_have_no_places_to_evaluate_or_to_stop():
    stream = _compose(["stream.evaluate_at=every:10", 'stream.stop_when="perplexity_ratio > 100"']).stream
    assert (stream.evaluate_at, stream.stop_when, stream.batch_size) == ((), (), 1)


def test_layers_are_sought_on_records_that_no_stream_edits():
    assert _compose(["model=pocket"]).dataset.split == "tune"
    assert _compose(["model=pocket", "dataset=custom", "dataset.path=edits.json"]).dataset.split is None
    assert _compose(["model=pocket", "dataset.split=all"]).dataset.split == "all"

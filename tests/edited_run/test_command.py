"""What the commands on an edited model hand on."""

import pytest

from editbench.cli import main
from editbench.edited_run import asking, exports, forgetting, listing


@pytest.mark.parametrize(
    ("module", "arguments", "wanted"),
    [
        (listing, ["edits", "R", "--json"], ("R", True)),
        (asking, ["ask", "R", "A", "B", "--tokens", "3", "--model", "M"], ("R", ["A", "B"], 3, "M", None, False)),
        (forgetting, ["forget", "R", "1", "2", "--out", "O"], ("R", ["1", "2"], "O")),
        (exports, ["export", "R", "--to", "lora", "--out", "O", "--rank", "4"], ("R", "lora", "O", None, None, 4)),
    ],
)
def test_the_arguments_reach_their_function(monkeypatch, module, arguments, wanted):
    given = []
    monkeypatch.setattr(module, "main", lambda *of: given.append(of) or 0)
    assert main(arguments) == 0 and given == [wanted]


def test_a_form_that_there_is_not_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["export", "R", "--to", "onnx", "--out", "O"])
    assert "checkpoint" in capsys.readouterr().err

"""What the commands about claims hand on."""

import pytest

from editbench.cli import main
from editbench.submission import pack, verify


@pytest.mark.parametrize(
    ("module", "arguments", "wanted"),
    [
        (verify, ["verify", "R", "--level", "2", "--path", "model.path=M"], ("R", 2, 64, None, ["model.path=M"])),
        (pack, ["submit", "A", "B", "--out", "O", "--against", "X"], (["A", "B"], "O", "X")),
    ],
)
def test_the_arguments_reach_their_function(monkeypatch, module, arguments, wanted):
    given = []
    monkeypatch.setattr(module, "main", lambda *of: given.append(of) or 0)
    assert main(arguments) == 0 and given == [wanted]

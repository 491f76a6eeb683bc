"""A run's kept config is its config again."""

import json

import pytest

from editbench import compose
from editbench.kept_config import of_kept


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["method=rome", "dataset=zsre", "model=pocket-gpt2"],
        ["method=nse", "stream.evaluate_at=powers"],
        ["protocol.judge.model=J", "protocol.judge.url=http://localhost/v1"],
    ],
)
def test_a_kept_config_gives_the_config_again(given, tmp_path):
    config = compose.compose(given)
    plain = json.loads(json.dumps(config.deciding()))  # as YAML gives it
    again = of_kept(plain, tmp_path)
    assert json.dumps(again.deciding(), default=str) == json.dumps(config.deciding(), default=str)
    assert again.cache == tmp_path

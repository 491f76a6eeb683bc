"""The judge's settings: what is refused, what decides, and that no message shows a secret."""

import pytest

from editbench import compose
from editbench.config import ProtocolConfig
from editbench.protocol_parts import JUDGED, AbilityConfig, JudgeConfig

SECRET = "hidden1234"


def test_nothing_is_measured_or_judged_by_default():
    assert AbilityConfig().tasks == [] and JudgeConfig().model is None
    assert not {*ProtocolConfig(metrics=["exact_match"]).metrics} & {*JUDGED}


def test_a_judge_brings_its_metrics_once():
    judge = JudgeConfig(model="mine")
    assert ProtocolConfig(metrics=["judge_unclear", "exact_match"], judge=judge).metrics == [
        *("judge_unclear", "exact_match", "judge", "judge_agreement")
    ]


def test_its_metrics_without_a_judge_are_refused():
    with pytest.raises(
        ValueError, match=r"protocol\.metrics has judge, and there is no judge; .*protocol\.judge\.model"
    ):
        ProtocolConfig(metrics=["exact_match", "judge"])


def test_how_it_is_asked_decides_nothing():
    endpoint = ["protocol.judge.model=mine", "protocol.judge.url=http://localhost:1/v1"]
    patient = ["protocol.judge.timeout=5", "protocol.judge.retries=9", "protocol.judge.parallel=1"]
    plain, judged = compose.compose([]), compose.compose(endpoint)
    assert "judge" not in plain.deciding()["protocol"]  # runs from before there were judges are found again
    assert judged.folder != plain.folder
    assert compose.compose([*endpoint, *patient, "protocol.judge.key_variable=MY_KEY"]).folder == judged.folder
    assert compose.compose([*endpoint, "protocol.judge.max_tokens=9"]).folder != judged.folder


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"url": "localhost:8000/v1"}, "no address of an endpoint"),
        ({"url": "http://"}, "no address"),
        ({"url": "file:///etc/passwd"}, "no address"),
        ({"url": "http://localhost:port/v1"}, "no address"),
        ({"url": f"http://me:{SECRET}@localhost/v1"}, "has a user"),
        ({"url": f"https://localhost/v1?key={SECRET}"}, "has a user, a password or a query"),
        ({"url": "http://localhost/v1/chat/completions"}, "must end before"),
        ({"url": "http://localhost/v1", "model": None}, "needs the judge's name"),
        ({"url": "http://localhost/v1", "key_variable": SECRET}, "must be the name of an environment variable"),
        ({"key_variable": "MY_KEY"}, "is for an endpoint"),
        ({"model": ""}, "protocol.judge.model is ''"),
        ({"max_tokens": 0}, "protocol.judge.max_tokens is 0"),
        ({"parallel": 0}, "protocol.judge.parallel is 0"),
        ({"retries": -1}, "protocol.judge.retries is -1"),
        ({"timeout": 0}, "protocol.judge.timeout is 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_without_showing_a_secret(options, why):
    with pytest.raises(ValueError, match=why) as error:
        JudgeConfig(**{"model": "mine", **options})
    assert SECRET not in str(error.value)

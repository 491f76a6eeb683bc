"""The endpoint: what is sent, what is tried again and how often, and that no secret gets out."""

import threading

import pytest

from editbench.evaluation.judge import endpoint
from editbench.evaluation.judge.endpoint import Endpoint, JudgeError, check_key
from editbench.protocol_parts import JudgeConfig

SECRET = "sk-very-secret"


def made(server, **options):
    return Endpoint(JudgeConfig(**{"model": "mine", "url": server.url, "parallel": 1, **options}))


def replies(judge, *prompts):
    return dict(judge.replies(prompts))


def test_a_chat_completion_is_asked_for(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", f"{SECRET}\n")
    server.reply = lambda prompt: f"yes to {prompt}"
    assert replies(made(server, key_variable="MY_KEY"), "a", "b") == {0: "yes to a", 1: "yes to b"}
    path, key, body = server.asked[0]
    assert (path, key) == ("/v1/chat/completions", f"Bearer {SECRET}")
    assert body == {
        **{"model": "mine", "temperature": 0, "max_tokens": 16},
        "messages": [{"role": "user", "content": "a"}],
    }


def test_no_key_is_sent_unless_one_is_named(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    replies(made(server), "a")
    assert server.asked[0][1] is None


def test_many_are_asked_at_once_and_each_gets_its_own_reply(server):
    together = threading.Barrier(3, timeout=30)
    server.reply = lambda prompt: together.wait() and prompt or prompt  # passes when three wait
    prompts = [str(i) for i in range(12)]
    assert replies(made(server, parallel=3), *prompts) == dict(enumerate(prompts))


@pytest.mark.parametrize("failure", [(429, {}), (500, {}), (503, {"Retry-After": "0"}), "drop", 0.5])
def test_passing_failures_are_tried_again(server, failure):
    server.failures = [failure, failure]
    assert replies(made(server, timeout=0.2), "a") == {0: "yes"}
    assert len(server.asked) == 3


def test_the_endpoint_says_how_long_to_wait_within_bounds(server, monkeypatch):
    waited = []
    judge = made(server)
    monkeypatch.setattr(judge._stop, "wait", waited.append)
    server.failures = [(429, {"Retry-After": "3"}), (429, {"Retry-After": "99999"}), (429, {"Retry-After": "soon"})]
    replies(judge, "a")
    assert waited == [3.0, endpoint.LONGEST_PAUSE, endpoint.PAUSE * 4]


def test_tries_are_limited_and_replies_so_far_are_given(server):
    server.failures = [(200, {}), *[(503, {})] * 10]
    judge, got = made(server, retries=2), {}
    with pytest.raises(JudgeError, match=r"was asked 3 times without an answer \(status 503\).*same command goes on"):
        for at, reply in judge.replies(["a", "b", "c"]):
            got[at] = reply
    assert got == {0: "yes"}
    assert len(server.asked) <= 1 + 2 * 3


def test_after_a_failure_replies_on_their_way_are_given_and_no_more_is_asked(server):
    judge, got = made(server, parallel=2), {}
    server.reply = lambda prompt: judge._stop.wait(30) and "yes"  # after the other one's refusal
    server.failures = [(200, {}), (400, {})]
    with pytest.raises(JudgeError, match="refuses, with status 400"):
        for at, answer in judge.replies([str(i) for i in range(20)]):
            got[at] = answer
    assert len(got) == 1 and len(server.asked) == 2
    server.reply = lambda prompt: "no"
    assert replies(judge, "again") == {0: "no"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 307])
def test_a_refusal_is_not_tried_again_and_shows_no_key(server, monkeypatch, status):
    monkeypatch.setenv("MY_KEY", SECRET)
    server.failures = [(status, {"Location": server.url + "/elsewhere/chat/completions"})] * 3
    with pytest.raises(JudgeError, match=rf"refuses, with status {status}: refused Bearer \(key\)") as error:
        replies(made(server, key_variable="MY_KEY"), "a")
    assert SECRET not in repr(error.value)
    assert [path for path, _, _ in server.asked] == ["/v1/chat/completions"]  # no redirect is followed


def test_a_server_that_is_no_endpoint_is_named(server):
    server.reply = lambda prompt: 5
    with pytest.raises(JudgeError, match=r"answers without a chat completion.*correct protocol\.judge\.url"):
        replies(made(server), "a")


def test_a_message_without_text_is_an_empty_reply(server):
    server.reply = lambda prompt: None
    assert replies(made(server), "a") == {0: ""}


def test_an_address_without_a_server_is_not_tried_again(monkeypatch):
    judge, waited = Endpoint(JudgeConfig(model="mine", url="http://127.0.0.1:9/v1")), []
    monkeypatch.setattr(judge._stop, "wait", waited.append)
    with pytest.raises(JudgeError, match=r"there is no judge at http://127\.0\.0\.1:9/v1"):
        replies(judge, "a")
    assert waited == []


def test_a_response_that_drips_does_not_last_longer_than_the_time_out(server, monkeypatch):
    clock = iter(range(0, 10**6, 100))
    monkeypatch.setattr(endpoint.time, "monotonic", lambda: next(clock))
    with pytest.raises(JudgeError, match=r"asked once without an answer \(it takes longer"):
        replies(made(server, retries=0), "a")


@pytest.mark.parametrize(
    ("value", "why"), [(None, "has no such variable"), ("", "or it is empty"), ("a b", "blanks"), ("a\nb", "blanks")]
)
def test_a_key_that_is_missing_or_none_is_refused(monkeypatch, value, why):
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    settings = JudgeConfig(model="mine", url="http://localhost/v1", key_variable="MY_KEY")
    with pytest.raises(ValueError, match=why) as error:
        check_key(settings)
    assert not value or value not in str(error.value)

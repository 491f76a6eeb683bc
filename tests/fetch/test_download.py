"""Downloads from a server that breaks off, sends something else, knows no ranges, or is not there."""

import hashlib
import json

import pytest

from editbench.fetch.download import TRIES, DownloadError, copied, digest_of, download
from tests.fetch.server import NOWHERE

CONTENT = bytes(range(256)) * 12_000  # 3 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "/files/model.bin"


@pytest.fixture
def target(tmp_path, server):
    server.files[PATH] = CONTENT
    return tmp_path / "deep" / "model.bin"


def leftovers(target):
    return sorted(file.name for file in target.parent.iterdir()) if target.parent.is_dir() else []


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_file_is_there_whole_and_alone(server, target, sha256):
    assert download(server.url + PATH, target, sha256=sha256) == SHA256
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == ["model.bin"]


def test_a_broken_connection_goes_on_where_it_broke(server, target):
    server.cut[PATH] = [1_000_000, 2_000_000]
    assert download(server.url + PATH, target, sha256=SHA256) == SHA256
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1000000-", "bytes=2000000-"]
    assert target.read_bytes() == CONTENT


def test_another_process_goes_on(server, target):
    server.cut[PATH] = [700_000] + [0] * TRIES
    with pytest.raises(DownloadError, match="the same command goes on after 1 MB"):
        download(server.url + PATH, target, sha256=SHA256)
    assert not target.exists()
    assert target.with_name("model.bin.part").stat().st_size == 700_000
    server.cut.clear()
    server.asked.clear()
    download(server.url + PATH, target, sha256=SHA256)
    assert server.asked == [(PATH, "bytes=700000-")]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("broken", ["ranges", "marks"])
def test_it_starts_anew_where_the_server_cannot_go_on(server, target, broken):
    setattr(server, broken, False)
    server.cut[PATH] = [1_000_000]
    download(server.url + PATH, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == ["model.bin"]


def test_a_file_that_changed_meanwhile_is_read_from_its_start(server, target):
    server.cut[PATH] = [1_000_000] + [0] * TRIES
    with pytest.raises(DownloadError):
        download(server.url + PATH, target)
    server.cut.clear()
    server.files[PATH] = other = CONTENT[::-1]
    download(server.url + PATH, target)
    assert target.read_bytes() == other


def test_a_damaged_half_is_thrown_away(server, target):
    server.cut[PATH] = [1_000_000] + [0] * TRIES
    with pytest.raises(DownloadError):
        download(server.url + PATH, target, sha256=SHA256)
    server.cut.clear()
    part = target.with_name("model.bin.part")
    part.write_bytes(b"x" * part.stat().st_size)
    assert download(server.url + PATH, target, sha256=SHA256) == SHA256
    assert target.read_bytes() == CONTENT


def test_a_half_that_is_too_long_is_thrown_away(server, target):
    server.cut[PATH] = [1_000_000] + [0] * TRIES
    with pytest.raises(DownloadError):
        download(server.url + PATH, target, sha256=SHA256)
    server.cut.clear()
    target.with_name("model.bin.part").write_bytes(b"x" * (len(CONTENT) + 5))
    assert download(server.url + PATH, target, sha256=SHA256) == SHA256


def test_a_wrong_digest_leaves_nothing(server, target):
    with pytest.raises(DownloadError, match=f"has SHA-256 {SHA256}, and 00 was expected"):
        download(server.url + PATH, target, sha256="00")
    assert leftovers(target) == []


def test_an_older_file_stays_until_the_new_one_is_whole(server, target):
    target.parent.mkdir()
    target.write_bytes(b"older")
    with pytest.raises(DownloadError):
        download(server.url + PATH, target, sha256="00")
    assert target.read_bytes() == b"older"


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_refusal_names_the_address(server, target, status):
    server.statuses[PATH] = status
    with pytest.raises(DownloadError, match=f"{PATH} answers {status}"):
        download(server.url + PATH, target)
    assert len(server.asked) == 1


def test_no_server_is_one_quick_error(target):
    with pytest.raises(DownloadError, match="cannot be read"):
        download(NOWHERE + PATH, target)


def test_the_mark_of_another_address_counts_for_nothing(server, target):
    server.cut[PATH] = [1_000_000] + [0] * TRIES
    with pytest.raises(DownloadError):
        download(server.url + PATH, target)
    server.cut.clear()
    notes = target.with_name("model.bin.part.json")
    notes.write_text(json.dumps({**json.loads(notes.read_text()), "url": "http://elsewhere/"}))
    server.asked.clear()
    download(server.url + PATH, target)
    assert server.asked == [(PATH, None)]


def test_a_copy_is_checked_too(tmp_path):
    own, target = tmp_path / "own.bin", tmp_path / "cache" / "own.bin"
    own.write_bytes(CONTENT)
    with pytest.raises(DownloadError, match="the published file has 00"):
        copied(own, target, sha256="00")
    assert leftovers(target) == []
    assert copied(own, target, sha256=SHA256) == digest_of(target) == SHA256
    assert own.exists()
    with pytest.raises(DownloadError, match="there is no file"):
        copied(tmp_path / "nowhere", target)

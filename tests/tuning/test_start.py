"""What all trials share is checked before the first."""

import pytest

from editbench import registry
from editbench.config import ResultsConfig
from editbench.datasets import from_config
from editbench.datasets.disjoint import record_hashes
from editbench.tuning.start import start, trial_config

OWN = {"method.norm_bound=null", "method.steps=3"}


def test_given_settings_stay_and_the_others_are_sought(overrides, tmp_path):
    config = trial_config(overrides, seed=4)
    search = start(config, overrides)
    assert list(search.space) == ["layer", "learning_rate"]
    assert search.fixed == {"norm_bound": None, "steps": 3} and search.n_layers == 3
    assert search.untuned == {"layer": 0, "learning_rate": 5e-4}
    records = from_config(config.dataset, None)
    assert records.split.name == "tune" and search.records == record_hashes(records.records[:3], records.prompt_format)
    made = search.run({"layer": 2, "learning_rate": 0.1}, ResultsConfig("results", "a"))
    assert made.method.settings.layer == 2 and made.method.settings.steps == 3 and made.method.hparams == "tuning"
    assert made.protocol.stages == ["final"] and made.stream.evaluate_at == () and made.stream.seed == 4
    assert made.protocol.metrics == ["agreement_tokens", "nll_contrast"] and made.results.name == "a"
    with pytest.raises(ValueError, match="steps is 0"):
        search.run({"steps": 0}, ResultsConfig("results", "a"))


def test_a_trial_is_scored_at_its_end_alone(overrides):
    early = ["stream.evaluate_at=every:2", 'stream.stop_when="perplexity_ratio > 100"']
    stream = trial_config([*overrides, *early], 0).stream
    assert (stream.evaluate_at, stream.stop_when) == ((), ())


def test_a_search_starts_from_published_settings_and_never_from_tuned_ones(overrides, tmp_path, monkeypatch):
    for name, text in {
        "tuned/pocket": "layer: 1",
        "by_hand/pocket": "layer: 2",
        "published/any": "layer: 0\ntrain_eos: true\nlearning_rate: 1e-3",
    }.items():
        (tmp_path / "hparams" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hparams" / f"{name}.yaml").write_text(text)
    monkeypatch.setattr(registry, "hparams_folder", lambda method: tmp_path / "hparams")
    plain = [o for o in overrides if o not in OWN]
    config = trial_config(plain, 0)
    for given, layer in (([], 0), (["hparams=by_hand"], 2)):
        search = start(config, [*plain, "model=pocket", *given])
        assert search.untuned["layer"] == layer
    assert start(config, [*plain, "model=pocket"]).fixed == {"train_eos": True}
    assert start(config, [*plain, "model=pocket"]).run({}, ResultsConfig()).method.settings.train_eos


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dataset.split=stream", "a tuner edits the records of dataset.split=tune"),
        ("dataset.split=all", "a tuner edits the records of dataset.split=tune"),
        ("hparams=tuned", "hparams=tuned is what the tuner writes"),
        ("stream.seed=3", "give --seed instead of stream.seed"),
        ("method.laier=3", "unknown key 'method.laier'; did you mean 'method.layer'"),
    ],
)
def test_what_does_not_belong_to_a_search_is_refused(overrides, given, message):
    with pytest.raises(ValueError, match=message):
        trial_config([*overrides, given], 0)


def test_a_method_with_nothing_to_tune_is_refused(overrides):
    given = [o for o in overrides if o not in OWN] + ["method=unedited"]
    with pytest.raises(ValueError, match="method unedited has no setting to tune"):
        start(trial_config(given, 0), given)
    given = [*overrides, "method.layer=0", "method.learning_rate=0.1"]
    with pytest.raises(ValueError, match="method finetune has no setting to tune, beside those that were given"):
        start(trial_config(given, 0), given)


def test_more_edits_than_records_for_tuning_are_refused(overrides):
    given = [*overrides, "stream.edits=30"]
    with pytest.raises(ValueError, match="edits=30, but counterfact has only"):
        start(trial_config(given, 0), given)


def test_records_without_a_question_of_the_headline_are_refused(overrides):
    given = [*overrides, "protocol.headline.default.locality=subject_fact.exact_match"]
    with pytest.raises(ValueError, match=r"no record has a question of locality \(subject_fact.exact_match\)"):
        start(trial_config(given, 0), given)

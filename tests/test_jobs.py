"""Jobs of a command: settings by the name of a choice, and settings that some choices lack."""

import pytest

from editbench import compose, jobs, plugins
from editbench.jobs import nearest

SMALL = ["model=pocket", "stream.edits=2"]


def jobs_of(*overrides):
    return [[o for o in job if o not in SMALL] for job in compose.check([*SMALL, *overrides]).jobs]


def test_a_setting_by_the_name_of_its_method_is_of_its_jobs_alone():
    assert jobs_of("method=rome,memit", "rome.layer=1,2", "memit.layers=[0],[0,1]") == [
        *(["method=rome", f"method.layer={layer}"] for layer in (1, 2)),
        *(["method=memit", f"method.layers={layers}"] for layers in ("[0]", "[0,1]")),
    ]


def test_a_setting_by_name_counts_before_one_of_all_methods():
    assert jobs_of("method=rome,scen", "scen.layer=0", "method.layer=1,2") == [
        ["method=rome", "method.layer=1"],
        ["method=rome", "method.layer=2"],
        ["method=scen", "method.layer=0"],
    ]


def test_jobs_of_a_method_without_the_setting_are_one_and_a_line_says_so(capsys):
    assert jobs_of("method=rome,unedited", "method.learning_rate=0.1,0.2") == [
        ["method=rome", "method.learning_rate=0.1"],
        ["method=rome", "method.learning_rate=0.2"],
        ["method=unedited"],
    ]
    assert capsys.readouterr().err == (
        "note: unedited has no method.learning_rate: left out, and its jobs that are alike are one\n"
    )


def test_data_sets_and_models_have_settings_by_name_too():
    found = jobs_of("method=unedited", "dataset=zsre,counterfact", "zsre.path=z.json", "zsre.target=answers")
    assert found == [
        ["method=unedited", "dataset=zsre", "dataset.path=z.json", "dataset.target=answers"],
        ["method=unedited", "dataset=counterfact"],
    ]
    assert compose.check(["model=gpt2-xl,gpt-j-6b", "gpt2-xl.path=a", "gpt-j-6b.path=b"]).jobs == [
        ["model=gpt2-xl", "model.path=a"],
        ["model=gpt-j-6b", "model.path=b"],
    ]


def test_one_run_may_name_its_method(capsys):
    config = compose.compose([*SMALL, "method=rome", "rome.layer=1", "memit.layers=[0]"])
    assert config.method.settings.layer == 1
    assert capsys.readouterr().err == "note: no job has memit: memit.layers is not used\n"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=rome,memit", "method.layr=1"], "unknown key 'method.layr' of method rome, memit; did you mean"),
        (["method=rome", "rome.stepps=1"], "unknown key 'method.stepps'; did you mean 'method.steps'"),
        (["method=rome,unedited", "method.learn_rate=1"], "did you mean 'method.learning_rate'"),
        (["method=memit", "method.layer=[1]"], "did you mean 'method.layers'"),
        (["method=unedited", "dataset=zsre", "dataset.pth=x"], "did you mean 'dataset.path'"),
        (["method=rome", "memit.layrs=[0]"], "unknown key 'method.layrs'; did you mean 'method.layers'"),
        (["rom.layer=1"], "unknown key 'rom.layer'"),
    ],
)
def test_an_unknown_setting_names_the_nearest_of_the_section(overrides, message):
    with pytest.raises(ValueError) as caught:
        compose.check(overrides)
    assert message in str(caught.value)


def test_several_values_need_a_sweep():
    with pytest.raises(ValueError, match="stream.seed has several values: a sweep over them needs -m"):
        compose.compose([*SMALL, "stream.seed=0,1"])


def test_the_command_line_has_the_last_word_over_an_experiments_settings_by_name():
    sections = {"rome": "method", "memit": "method"}
    names = jobs.Names(sections, lambda *_: ["method.layer"], {"method": "rome", "dataset": "d", "model": "m"})
    read = jobs.OverridesParser.create().parse_overrides
    swept = {"method": "rome,memit", "rome.layer": "1,2"}
    assert jobs.expand(read(["stream.seed=0"]), swept, names)[0] == [
        ["method=rome", "stream.seed=0", "method.layer=1"],
        ["method=rome", "stream.seed=0", "method.layer=2"],
        ["method=memit", "stream.seed=0"],
    ]
    for mine in ("method.layer=3", "rome.layer=3"):
        found = jobs.expand(read([mine, "method=rome"]), swept, names)[0]
        assert [sorted(job) for job in found] == [["method.layer=3", "method=rome"]]


def test_every_choice_has_its_own_keys():
    for section, group in (("method", plugins.METHODS), ("dataset", plugins.DATASETS)):
        for choice in plugins.entry_points(group):
            compose.register([])
            assert set(compose._keys_of(section, choice)) > {f"{section}.name"} or choice == "unedited"


KEYS = [
    *(
        "method",
        "stream",
        "hydra.job.name",
        "method.layers",
        "method.learning_rate",
        "method.kl_factor",
        "method.steps",
    ),
    *("method.covariance_weight", "method.weight_decay", "stream.edits", "stream.batch_size", "stream.order"),
    *("protocol.judge", "protocol.judge.model", "protocol.judge.key_variable", "protocol.judge.url", "results.name"),
    *("protocol.ability.batch_size", "results.dir", "model.device"),
]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("method.lr", "method.learning_rate"),
        ("method.kl", "method.kl_factor"),
        ("method.cov_weight", "method.covariance_weight"),
        ("method.mom2_update_weight", "method.covariance_weight"),
        ("method.batch_size", "stream.batch_size"),
        ("batch_size", "stream.batch_size"),
        ("layer", "method.layers"),
        ("lr", "method.learning_rate"),
        ("stream.num_edits", "stream.edits"),
        ("stream.shuffle", "stream.order"),
        ("results.directory", "results.dir"),
        ("model.gpu", "model.device"),
        ("method.V_LR", "method.learning_rate"),
        ("method.Learning_Rate", "method.learning_rate"),
        ("STREAM.EDITS", "stream.edits"),
        ("judge.model", "protocol.judge.model"),
        ("protocol.judge_model", "protocol.judge.model"),
        ("protocol.judge.modle", "protocol.judge.model"),
        ("protocol.judge.name", "protocol.judge.model"),
        ("protocol.judge.api_key", "protocol.judge.key_variable"),
        ("protocol.judge.base_url", "protocol.judge.url"),
    ],
)
def test_the_nearest_key_is_of_the_section_first(key, near):
    assert nearest(key, KEYS) == f"did you mean {near!r}?"


def test_a_key_like_no_other_gets_those_of_its_section_or_the_sections():
    assert nearest("stream.zzzz", KEYS) == "known: stream.batch_size, stream.edits, stream.order"
    assert nearest("zzzz", KEYS) == "known: method, stream"


@pytest.mark.parametrize(
    "key", ["+foo", "++foo", "+stream.foo", "+model.foo", "+method.foo", "+dataset.foo", "stream.foo"]
)
def test_an_unknown_key_is_refused_with_a_plus_sign_too(key):
    with pytest.raises(ValueError, match=f"unknown key '{key.lstrip('+')}'"):
        compose.check([*SMALL, f"{key}=1"])


def test_known_keys_and_names_of_the_users_own_may_be_added():
    given = ["+stream.seed=1", "+protocol.data.zsre.target=answers", "dataset.fields.target=new", "+dataset.limit=3"]
    assert len(compose.check([*SMALL, *given]).jobs) == 1


def test_a_decimal_comma_is_told():
    with pytest.raises(ValueError, match="needs -m; a decimal number has a point: method.learning_rate=0.5"):
        compose.compose([*SMALL, "method=rome", "method.learning_rate=0,5"])
    with pytest.raises(ValueError, match="needs -m$"):
        compose.compose([*SMALL, "method=rome", "method.steps=2,5"])


@pytest.mark.parametrize(
    ("key", "near"), [("metod", "method"), ("model_path", "model.path"), ("judge_model", "protocol.judge.model")]
)
def test_a_key_without_a_section_may_be_one_or_have_its_point_missing(key, near):
    with pytest.raises(ValueError, match=f"unknown key '{key}'; did you mean '{near}'"):
        compose.check([f"{key}=x"])

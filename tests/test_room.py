"""Room that methods take: what the ledger keeps, the workload of a stream, and peaks that were measured."""

import gc
import warnings
from types import SimpleNamespace

import pytest
import torch
import transformers

from benchmarks.gpu.shapes import LONG, SHORT, shape_of
from benchmarks.live_bytes import LiveBytes
from editbench import EditRequest, Ledger, Resources, make_editor
from editbench.locate_then_edit.multi_layer import covariances
from editbench.methods.alphaedit import AlphaEditConfig
from editbench.model.shape import Shape
from editbench.pocket import dataset_files
from editbench.registry import load_method, make_config
from editbench.room import CHUNK_NUMBERS, KEYFRAME_EVERY, Room, Workload, grown, of_changes
from tests.full_size import H200, requests, workload


def words(text):
    return len(text.split())


def test_a_workload_is_that_of_the_longest_batch():
    short, long = EditRequest("a", "Lyon is in", "Lyon", "Rome"), EditRequest("b", "the city of Lyon is", "Lyon", "a b")
    work = Workload.of([short, short, short, long], 2, words, ["{}", "In truth, {}"])
    assert (work.edits, work.batch, work.batches, work.templates) == (4, 2, 2, (2,))
    assert (work.prompt, work.tail, work.answer, work.row) == (4.0, 2.5, 1.5, 4.5)  # of the last two
    assert work.contexts([9, 9]) == (2,) and Workload.of([short], 10, words).contexts([9, 9]) == [9, 9]
    assert work.longest == 6 and Workload.of([short], 10, words).batch == 1
    assert Workload.of([EditRequest("c", "Where is it", None, "here")], 1, words).tail == 3  # all without a subject


def test_rooms_add_up_and_the_most_is_of_one_stage():
    room = Room(kept=10, preparing=50, editing=20, host=5, disk=7) + Room(kept=1, cache=3)
    assert room == Room(kept=11, preparing=50, editing=20, host=5, disk=7, cache=3)
    assert (room.most(0), room.most(30), room.most(60)) == (50, 50, 71)
    assert Room(editing=20).most(1) == 20


def test_the_ledger_keeps_copies_changes_and_keyframes():
    one = Workload(1, 1, 5, 2, 1, 5)
    single, half = SimpleNamespace(of_a_number=4, of_an_edited=4), SimpleNamespace(of_a_number=2, of_an_edited=2)
    assert of_changes([100], single, one, 40) == Room(editing=100 * (4 + 8), host=400, disk=40)
    many = of_changes([100, 50], single, Workload(2 * KEYFRAME_EVERY, 1, 5, 2, 1, 5), 40)
    assert (many.kept, many.host, many.disk) == (600, 600, 2 * KEYFRAME_EVERY * 40 + 2 * 600)
    rare = of_changes([10**6], single, Workload(KEYFRAME_EVERY, 1, 5, 2, 1, 5), 40)
    assert rare.disk == KEYFRAME_EVERY * 40  # fewer bytes than a keyframe has
    assert of_changes([10 * CHUNK_NUMBERS], half, one, 0).editing == CHUNK_NUMBERS * 8
    assert of_changes([10], half, one, 0, dense=True).editing == 40
    assert [grown(n) for n in (0, 1, 64, 65)] == [0, 64, 64, 128]


def test_matrices_that_are_held_in_float32_take_their_bytes():
    two = Workload(2, 1, 5, 2, 1, 5)
    held = of_changes([100], SimpleNamespace(of_a_number=2, of_an_edited=4), two, 40)
    assert (held.kept, held.host) == (100 * (2 + 4), 400)  # two more than the model's, and the weight of before
    shapes = [
        Shape.of_config(transformers.LlamaConfig(**SIZES), dtype, edited_dtype="float32")
        for dtype in ("bfloat16", "float32", "float64")
    ]
    assert [(shape.of_a_number, shape.of_an_edited) for shape in shapes] == [(2, 4), (4, 4), (8, 8)]


@pytest.mark.parametrize("method", H200)
def test_the_peak_on_a_gpu_at_full_size_is_foreseen(method):
    took, settings, stream = H200[method]
    shape, cls = shape_of("llama-3-8b", "bfloat16"), load_method(method)
    room = cls.room(make_config(method, cls.config_class, settings), shape, workload(*stream))
    assert (shape.bytes + room.kept + room.editing) / 2**30 == pytest.approx(took, rel=0.15)


SIZES = {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 2}
SIZES |= {"intermediate_size": 640, "vocab_size": 8000, "max_position_embeddings": 256, "tie_word_embeddings": False}
_VALUES = {"steps": 2, "stop_loss": 0.0, "ridge": 0.01}
_LAYERS = {"layers": [1, 2], **_VALUES}
SETTINGS = {
    "rome": {"layer": 1, **_VALUES},
    "memit": _LAYERS,
    "pmet": _LAYERS,
    "rect": _LAYERS,
    "nse": {**_LAYERS, "alpha": 0.0, "upper_bound": 1e9},
    "alphaedit": {"layers": [1, 2], "steps": 2, "stop_loss": 0.0},
    "finetune": {"layer": 1, "steps": 2, "stop_loss": 0.0},
    "lora": {"steps": 2, "stop_loss": 0.0},
    "ultraedit": {"layers": [1, 2]},
    "mend": {"layers": [1, 2], "network": "untrained", "rank": 64},
    "grace": {"layer": 2, "projection": "second", "steps": 2},
    "melo": {"layers": [2, 3, 4], "projection": "second", "steps": 2},
    "defer": {"layer": 2, "steps": 2, "irrelevant": ["Rivers"]},
    "scen": {"layer": 2, "expert_steps": 2, "neuron_steps": 2},
    "retrieval": {"layer": 2},
}


@pytest.fixture(scope="module")
def lm():
    from editbench.model.language_model import LanguageModel
    from editbench.model_places import shipped_model_path

    tokenizer = transformers.AutoTokenizer.from_pretrained(shipped_model_path("pocket"))
    return LanguageModel(transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)), tokenizer, name="sizes")


def half_of_the_directions(lm, layers, resources):
    """The threshold below which half the directions are: what is foreseen, since a basis has no more than half."""
    found = covariances(lm, AlphaEditConfig(layers=layers), resources)
    return torch.stack([torch.linalg.eigvalsh(matrix).median() for _, matrix in found]).mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("method", SETTINGS)
def test_live_tensors_take_what_is_foreseen(method, lm):
    """The weights and all that is beside them, before the first edit and during two batches."""
    templates, batch = (LONG, 1) if method == "rome" else (SHORT, 10)
    cls, settings = load_method(method), SETTINGS[method]
    shape = Shape.of_config(transformers.LlamaConfig(**SIZES), "float32")
    work = workload(2 * batch, batch, templates)
    room = cls.room(make_config(method, cls.config_class, settings), shape, work)
    resources, many = Resources(texts=dataset_files.plain_text(0)[:300], templates=templates), requests(2 * batch)
    if method == "alphaedit":
        settings = {**settings, "nullspace_threshold": half_of_the_directions(lm, settings["layers"], resources)}
    gc.collect()
    with warnings.catch_warnings(), LiveBytes() as preparing:
        editor = make_editor(method, lm, ledger=Ledger(lm), resources=resources, hparams="defaults", **settings)
        editor.prepare(many if method == "scen" else [])  # NSE would find all values then
    kept = peak = preparing.last
    for start in range(0, 2 * batch, batch):
        gc.collect()
        with LiveBytes() as editing:
            editor.edit(many[start : start + batch])
        peak, kept = max(peak, kept + editing.peak), kept + editing.last
    editor.ledger.rollback()
    said = room.kept + room.editing + room.host
    assert shape.bytes + said == pytest.approx(shape.bytes + peak, rel=0.15)
    if room.cache:
        assert shape.bytes + room.preparing == pytest.approx(shape.bytes + preparing.peak, rel=0.15)

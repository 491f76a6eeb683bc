"""MELO against the published code's numbers: losses, blocks, clusters and lookups, with ``rules=published``."""

import json
from functools import cache

import torch
from safetensors.torch import load_file

from editbench import EditRequest, make_editor
from tests.golden_edits import FOLDER, furthest, golden_lm, relative


@cache
def gold():
    data = json.loads((FOLDER / "melo-gpt2" / "data.json").read_text(encoding="utf-8"))
    return data, load_file(FOLDER / "melo-gpt2" / "tensors.safetensors")


def melo():
    data, tensors = gold()
    published = data["settings"]
    editor = make_editor(
        "melo",
        golden_lm(),
        layers=[3, 4, 5],
        projection="first",
        rank=published["num_rank_per_block"],
        edits_per_block=published["num_edit_per_block"],
        scale=data["scale"],
        radius=published["init_radius"],
        steps=published["num_iter"],
        learning_rate=published["edit_lr"],
        rules="published",
    )
    zero = torch.zeros(2, 256)
    editor.given_factors = {
        block: [(tensors[f"init.lora_A.{i}"][:, 2 * block : 2 * block + 2], zero) for i in range(2)]
        for block in range(3)
    }
    return editor


def edit(editor, number):
    data, _ = gold()
    edits = [data["edits"][i] for i in data["batches"][number]["edits"]]
    requests = [EditRequest(f"{number}.{i}", one["prompt"], None, one["target_new"]) for i, one in enumerate(edits)]
    return editor.edit(requests)


def test_batches_and_clusters():
    data, tensors = gold()
    editor = melo()
    for number, wanted in enumerate(data["batches"]):
        result = edit(editor, number)
        assert furthest(result.losses[f"{number}.0"], wanted["losses"]) < 1e-4
        keys = torch.stack([p.key for c in editor.index.clusters for p in c.points if p.block == number])
        ids = [p.edit for c in editor.index.clusters for p in c.points if p.block == number]
        keys = keys[[ids.index(f"{number}.{i}") for i in range(3)]]
        assert relative(keys, tensors[f"batch.{number}.query"]) < 1e-5
        for i, (a, b) in enumerate(editor.blocks[number]):
            assert relative(a, tensors[f"batch.{number}.lora_A.{i}"]) < 1e-3
            assert relative(b, tensors[f"batch.{number}.lora_B.{i}"]) < 1e-3
        for cluster, of_it in zip(editor.index.clusters, wanted["clusters"], strict=True):
            assert abs(cluster.radius - of_it["radius"]) < 1e-3 and cluster.label_sum == of_it["label_sum"]
            assert [point.block for point in cluster.points] == of_it["values"]
    centres = torch.stack([one.centre for one in editor.index.clusters])
    assert relative(centres, tensors["final.centers"]) < 1e-5


def test_lookups():
    """Of texts with their answers, alone: keys stand at the end token."""
    data, tensors = gold()
    editor = melo()
    for number in range(3):
        edit(editor, number)
    targets = {one["prompt"]: one["target_new"] for one in data["edits"]}
    answered = set()
    for i, query in enumerate(data["queries"]):
        with_answer = query["kind"] == "edit with answer"
        text = f"{query['text']} {targets[query['text']]} <|endoftext|>" if with_answer else query["text"]
        key = editor.projection.outputs(editor.inputs_at_ends([text]))
        ((place, distance),) = editor.index.nearest(key)
        assert place == query["nearest"] and abs(distance - min(query["distances"])) < 1e-3
        ids = torch.tensor([editor.lm.encode(text).ids])
        with torch.no_grad(), editor.answering([ids.shape[1] - 1]) as routing:
            logits = editor.lm.model(input_ids=ids).logits[0, -1]
        block = query["block"][0]
        assert routing.answered_by == [None if block == -100 else f"block {block}"]
        answered.add(block)
        if not with_answer:
            assert relative(logits, tensors["query.logits_last"][i - 9]) < 1e-3
    assert answered == {-100, 0, 1, 2}

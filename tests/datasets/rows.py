"""Raw records of each published layout, and files of them."""

import json

from editbench.datasets import load

EASYEDIT = {
    "case_id": 11,
    "prompt": "The mother tongue of Ann Lee is ",
    "target_new": " English",
    "subject": "Ann Lee",
    "ground_truth": "French",
    "rephrase_prompt": "Ann Lee speaks",
    "locality_prompt": "Bo Ek speaks",
    "locality_ground_truth": "Swedish",
}
ROME = {
    "case_id": 12,
    "pararel_idx": 3,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Ann Lee",
    },
    "paraphrase_prompts": ["Ann Lee speaks", "Home. Ann Lee's language is"],
    "neighborhood_prompts": ["Bo Ek speaks", "Cy Or speaks"],
    "attribute_prompts": ["Di Po speaks"],
    "generation_prompts": ["Ann Lee lives in"],
    "subject_fact_prompts": [{"prompt": "Ann Lee works as a", "target": "baker"}],
}
MEND = {
    "subject": "UniFirst",
    "src": "What is made by UniFirst?",
    "pred": "uniform",
    "rephrase": "What does UniFirst make?",
    "alt": "aircraft",
    "answers": ["uniform", "clothes"],
    "loc": "nq question: who sang it",
    "loc_ans": "Bo Ek",
    "cond": "uniform >> aircraft || What is made by UniFirst?",
}
SCEN = {"Q": "Who made it?", "A": "Ann", "rephrases": ["It was made by whom?"], "history_indexs": [3]}
WISE = {
    "prompt": "This is a Wikipedia passage about ann lee. Ann Lee was a baker. ",
    "target_new": "She lived in Rome.",
    "subject": "ann lee",
    "locality_prompt": "Some text from the w",
    "locality_ground_truth": "eb, and more",
}
HUB = {
    "gpt3_sentences": ["Ann Lee (born 1900) was a baker.", "She lived in Oslo.", "She had a dog.", "She died."],
    "annotation": ["minor_inaccurate", "accurate", "major_inaccurate", "major_inaccurate"],
    "wiki_bio_text": "Ann B. Lee was a miller, Dr. Ek says. She lived in Oslo. She had a cat.",
}


def write(folder, rows, name="rows.json"):
    path = folder / name
    path.write_text(json.dumps(rows, indent=1) if name.endswith(".json") else "\n".join(map(json.dumps, rows)))
    return path


def one(folder, dataset, row, **settings):
    return load(dataset, write(folder, [row]), **settings).records[0]

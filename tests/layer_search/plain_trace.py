"""Causal tracing by a plain loop, one corrupted row at a time."""

from itertools import product

import torch

from editbench import EditRequest
from editbench.layer_search.causal_tracing import (
    HIDDEN,
    KINDS,
    MLP,
    SITES,
    Prompt,
    Restoration,
    TraceConfig,
    draw_noise,
    embedding_deviation,
)
from tests.oracles.locate import hooked
from tests.tiny_models import LAYERS

CASES = (
    ("The mother tongue of Danielle Darrieux is", "Danielle Darrieux"),
    ("Toko Yasuda plays", "Toko Yasuda"),
    ("This was created by Anaal Nathrakh", "Anaal Nathrakh"),
)
SETTINGS = TraceConfig(samples=2, window=2)
NOTHING = Restoration(HIDDEN, 0, range(0))


def knowing(lm):
    """Requests whose true answer is what the tiny model says anyway, whatever token that is."""
    requests = []
    for i, (prompt, subject) in enumerate(CASES):
        answer = lm.model(input_ids=torch.tensor([lm.encode(prompt).ids])).logits[0, -1].argmax()
        requests.append(EditRequest(f"r{i}", prompt, subject, "0", str(int(answer))))
    lm.continuation = lambda text, spaced=True: [int(text)]
    return requests


@torch.no_grad()
def plain_run(lm, prompt, noise, states, kind, column, layers):
    """p(answer) of one run with noise (subject tokens, e) on the embeddings; with ``states`` None they are recorded."""

    def corrupt(tensor):
        out = tensor.clone()
        for i, token in enumerate(prompt.subject):
            out[0, token] += noise[i]
        return out

    def restore(place, tensor):
        out = tensor.clone().reshape(len(prompt.ids), -1)
        if states is not None and place[0] == kind and place[1] in layers:
            out[column] = states[place][column]
        seen[place] = out
        return out.reshape(tensor.shape)

    seen, handles = {}, [hooked(lm.model.get_input_embeddings(), corrupt)]
    for layer in range(LAYERS):
        handles.append(hooked(lm.layers[layer], lambda t, place=(HIDDEN, layer): restore(place, t)))
        handles.append(hooked(lm.mlp_out(layer), lambda t, place=(MLP, layer): restore(place, t)))
    logits = lm.model(input_ids=torch.tensor([prompt.ids]), use_cache=False).logits[0, -1]
    for handle in handles:
        handle.remove()
    return float(logits.softmax(-1)[prompt.answer]), seen


def plain_trace(lm, requests, settings):
    """Averages by name, with loops only."""
    prompts = [Prompt.of(lm, request) for request in requests]
    deviation = settings.noise * embedding_deviation(lm, prompts)
    sums = {}
    for prompt in prompts:
        noises = deviation * draw_noise(lm, prompt, settings)
        p_clean, states = plain_run(lm, prompt, 0 * noises[0], None, None, None, ())
        for noise in noises:
            base, _ = plain_run(lm, prompt, noise, states, None, None, ())
            found = {"clean": p_clean, "corrupted": base}
            for kind, site, layer in product(KINDS, SITES, range(LAYERS)):
                column = prompt.subject[-1] if site == "subject" else len(prompt.ids) - 1
                layers = (layer,) if kind == HIDDEN else (layer - 1, layer)  # a window of two
                found[f"{kind}.{site}", layer] = plain_run(lm, prompt, noise, states, kind, column, layers)[0] - base
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value / len(noises) / len(prompts)
    return sums

"""GRACE the plain way: one edit, one prompt at a time, the whole model, autograd. Slow and easy to believe."""

from contextlib import contextmanager

import torch

from editbench.model.architectures import module_at
from editbench.model.hooks import hooked


def projection(lm, layer, which):
    path = lm.architecture.mlp_in[0] if which == "first" else lm.architecture.mlp_out
    return module_at(lm.layers[layer], path)


def query(lm, module, prompt):
    """x (d_in) at the prompt's last token."""
    seen = []
    with torch.no_grad(), hooked(module, seen.append, inputs=True):
        lm.model(input_ids=torch.tensor([prompt]), use_cache=False)
    return seen[0].reshape(len(prompt), -1)[-1]


@contextmanager
def replaced(module, value, end, replacement="last"):
    """Within the block the module gives ``value`` at its row's token ``end``, up to it, or everywhere."""

    def put(output):
        flat = output.reshape(-1, output.shape[-1]).clone()
        where = {"last": slice(end, end + 1), "prompt": slice(0, end + 1), "all": slice(None)}[replacement]
        flat[where] = value.to(flat)
        return flat.reshape(output.shape)

    with hooked(module, put):
        yield


def train_value(lm, module, prompt, answer, start, steps, learning_rate, replacement="last"):
    """The value (d_out), and the loss before each step."""
    value = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([value], lr=learning_rate)
    ids = torch.tensor([[*prompt, *answer]])
    labels = ids.clone()
    labels[:, : len(prompt)] = -100
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        with replaced(module, value, len(prompt) - 1, replacement):
            loss = lm.model(input_ids=ids, labels=labels, use_cache=False).loss
        losses.append(float(loss.detach()))
        loss.backward()
        optimiser.step()
    return value.detach(), losses


def lookup(keys, radii, x):
    """Place of the entry that answers, or None: the nearest key, if x is within its radius."""
    distances = [float((x.double() - key.double()).norm()) for key in keys]
    if not distances:
        return None
    place = min(range(len(distances)), key=distances.__getitem__)
    return place if distances[place] <= radii[place] else None

"""SCEN the plain way: one edit, one prompt, one row at a time, the weight itself changed. Slow and easy to believe."""

from contextlib import contextmanager

import torch

from editbench.model.architectures import is_transposed
from editbench.model.hooks import hooked


def train_expert(lm, layer, prompt, answer, steps, learning_rate):
    """The expert's difference from the weight (d, d_ff), and the loss before each step. The whole model runs."""
    weight = lm.mlp_out(layer).weight
    original = weight.detach().clone()
    ids = torch.tensor([[*prompt, *answer]], device=lm.device)
    labels = ids.clone()
    labels[:, : len(prompt)] = -100
    weight.requires_grad_(True)
    optimiser = torch.optim.Adam([weight], lr=learning_rate)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = lm.model(input_ids=ids, labels=labels, use_cache=False).loss
        losses.append(float(loss.detach()))
        loss.backward()
        optimiser.step()
    delta = weight.detach() - original
    weight.requires_grad_(False)
    weight.grad = None
    weight.data.copy_(original)
    return delta.T if is_transposed(lm.mlp_out(layer)) else delta, losses


def prompt_inputs(lm, layer, prompts):
    """x (B, d_ff) at the last token of each prompt (token ids), the whole model run on all as one padded batch."""
    width = max(len(prompt) for prompt in prompts)
    ids = [[*prompt, *[lm.pad_id] * (width - len(prompt))] for prompt in prompts]
    seen = []
    with torch.no_grad(), hooked(lm.mlp_out(layer), seen.append, inputs=True):
        lm.model(input_ids=torch.tensor(ids, device=lm.device), use_cache=False)
    x = seen[0].reshape(len(prompts), width, -1)
    return torch.stack([x[i, len(prompt) - 1] for i, prompt in enumerate(prompts)])


def train_neuron(lm, layer, start, prompt, others, steps, learning_rate, hinge=False):
    """The neuron (d_ff), and the loss before each step. Every step runs the whole model on all prompts."""
    r = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([r], lr=learning_rate)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        a, *b = torch.sigmoid(prompt_inputs(lm, layer, [prompt, *others]).to(r) @ r)
        loss = neuron_loss(a, torch.stack(b) if b else None, hinge)
        losses.append(float(loss.detach()))
        loss.backward()
        optimiser.step()
    return r.detach(), losses


def neuron_loss(a, b, hinge=False):
    """The loss at activations ``a`` of the own prompt and ``b`` (N) of the others, term by term as published."""
    loss = torch.exp(-a)
    if b is None:
        return loss
    disable, margin = torch.exp(b) + 0.7, torch.exp(b) - a + 0.3
    if hinge:
        disable, margin = (disable - 2).clamp(min=0), (margin - 1).clamp(min=0)
    return loss + disable.mean() + margin.mean()


def route(lm, layer, neurons, theta, prompt):
    """Number of the expert that answers a prompt (token ids), or None."""
    if not len(neurons):
        return None
    before = neurons @ prompt_inputs(lm, layer, [prompt])[0].to(neurons)  # what rounds to 1 would be a tie
    best = int(before.argmax())
    return best if float(torch.sigmoid(before[best])) > theta else None


@contextmanager
def exchanged(lm, layer, delta):
    """Within the block the layer's weight is W + delta (d, d_ff)."""
    weight = lm.weight(lm.mlp_out_name(layer))
    original = weight.clone()
    weight.add_(delta.to(weight))
    try:
        yield
    finally:
        weight.copy_(original)


@contextmanager
def answering(lm, layer, neurons, deltas, theta, prompt):
    """Within the block the model is the one that answers ``prompt`` (token ids)."""
    expert = route(lm, layer, neurons, theta, prompt)
    if expert is None:
        yield
        return
    with exchanged(lm, layer, deltas[expert]):
        yield

"""WISE the plain way: whole model, one row at a time, the weight itself exchanged. Slow and easy to believe."""

from contextlib import contextmanager

import torch

from editbench.model.hooks import hooked


@contextmanager
def exchanged(lm, at, delta):
    """Within the block the projection gives x (W + delta)ᵀ + b."""

    def put(module, args, output):
        return output + (args[0] @ delta.to(args[0].dtype).T)

    handle = at.module.register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()


def inputs(lm, at, ids):
    """x (T, d_in) of a row."""
    seen = []
    with torch.no_grad(), hooked(at.module, seen.append, inputs=True):
        lm.model(input_ids=torch.tensor([ids]), use_cache=False)
    return seen[0].reshape(len(ids), -1)


def score(lm, at, delta, ids):
    """Mean over the row's tokens of ‖x deltaᵀ‖."""
    return float((inputs(lm, at, ids).to(delta.dtype) @ delta.T).norm(dim=-1).mean())


def train(lm, at, rows, irrelevant, mask, steps, rate, decay, margins, bound):
    """W' − W after an edit from W, and the losses before each step."""
    base = lm.weight(at.weight).clone()
    weight = base.clone().requires_grad_(True)
    alpha, beta, gamma = margins
    losses = []
    for _ in range(steps):
        delta = weight - base
        nll, inside = [], []
        for prompt, answer in rows:
            ids = torch.tensor([[*prompt, *answer]])
            labels = ids.clone()
            labels[:, : len(prompt)] = -100
            with exchanged(lm, at, delta):
                nll.append(lm.model(input_ids=ids, labels=labels, use_cache=False).loss)
            inside.append((inputs(lm, at, prompt) @ delta.T).norm(dim=-1).mean())
        outside = (inputs(lm, at, irrelevant) @ delta.T).norm(dim=-1).mean()
        own = torch.stack(inside)
        margin = (outside - own + gamma).relu().mean() + (outside - alpha).relu() + (beta - own).relu().mean()
        loss = torch.stack(nll).mean() + margin
        losses.append(float(loss.detach()))
        (gradient,) = torch.autograd.grad(loss, weight)
        with torch.no_grad():
            weight -= rate * mask * (gradient + decay * weight)
            weight.copy_(weight.clamp(base - bound, base + bound))
    return (weight - base).detach(), losses


def ties(deltas, weights, density):
    """Number by number, in Python."""
    flat = [delta.flatten().tolist() for delta in deltas]
    kept = []
    for numbers in flat:
        largest = sorted(range(len(numbers)), key=lambda i: -abs(numbers[i]))[: int(density * len(numbers))]
        kept.append([number if i in set(largest) else 0.0 for i, number in enumerate(numbers)])
    merged = []
    for i in range(len(flat[0])):
        total = sum(w * one[i] for w, one in zip(weights, kept, strict=True))
        sign = 1 if total >= 0 else -1
        agree = [(w, one[i]) for w, one in zip(weights, kept, strict=True) if one[i] * sign > 0]
        merged.append(sum(w * n for w, n in agree) / sum(w for w, _ in agree) if agree else 0.0)
    return torch.tensor(merged, dtype=deltas[0].dtype).reshape(deltas[0].shape)

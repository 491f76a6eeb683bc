"""Defer the plain way: whole model, one edit a row, autograd. Slow and easy to believe."""

import torch

from tests.oracles.melo import added


def gate_of(gate, x):
    """What the gate says to one input x (d_in)."""
    return torch.sigmoid(gate[:-1] @ (x / x.norm()) + gate[-1])


def train(lm, module, rows, keys, others, start, steps, rates):
    """The networks (A, B, gate), and the loss of all edits before each step; ``keys`` and ``others`` are inputs x."""
    a, b, gate = (part.clone().requires_grad_(True) for part in start)
    side, door = torch.optim.Adam([a, b], lr=rates[0]), torch.optim.Adam([gate], lr=rates[1])
    losses = []
    for _ in range(steps):
        loss = 0
        for prompt, answer in rows:
            ids = torch.tensor([[*prompt, *answer]])
            labels = ids.clone()
            labels[:, : len(prompt)] = -100
            with added([module], [(a, b)], 1.0):
                loss = loss + lm.model(input_ids=ids, labels=labels, use_cache=False).loss / len(rows)
        for key in keys:
            loss = loss - gate_of(gate, key).log() / len(keys)
        for other in others:
            loss = loss - (1 - gate_of(gate, other)).log() / len(others)
        side.zero_grad()
        door.zero_grad()
        losses.append(float(loss.detach()))
        loss.backward()
        side.step()
        door.step()
    return (a.detach(), b.detach(), gate.detach()), losses

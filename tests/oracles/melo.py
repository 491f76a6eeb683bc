"""MELO the plain way: whole model, one edit a row, autograd. Slow and easy to believe."""

from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def added(modules, factors, scale):
    """Within the block each module's output has scale · x A B added."""
    with ExitStack() as stack:
        for module, (a, b) in zip(modules, factors, strict=True):

            def put(module, args, output, a=a, b=b):
                return output + scale * (args[0] @ a.to(args[0].dtype) @ b.to(args[0].dtype))

            handle = module.register_forward_hook(put)
            stack.callback(handle.remove)
        yield


def train_block(lm, modules, rows, start, steps, rate, scale):
    """The factors, and the loss before each step: the mean over edits of the answer's mean NLL."""
    factors = [(a.clone().requires_grad_(True), b.clone().requires_grad_(True)) for a, b in start]
    optimiser = torch.optim.Adam([part for pair in factors for part in pair], lr=rate)
    losses = []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * 0.5 ** (step // 20)
        total = 0
        for prompt, answer in rows:
            ids = torch.tensor([[*prompt, *answer]])
            labels = ids.clone()
            labels[:, : len(prompt)] = -100
            with added(modules, factors, scale):
                total = total + lm.model(input_ids=ids, labels=labels, use_cache=False).loss
        optimiser.zero_grad()
        loss = total / len(rows)
        losses.append(float(loss.detach()))
        loss.backward()
        optimiser.step()
    return [(a.detach(), b.detach()) for a, b in factors], losses

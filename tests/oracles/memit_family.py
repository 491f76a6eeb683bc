"""MEMIT's relatives without any trick, each batch written as its paper or its published code says."""

import torch

from editbench.locate_then_edit.prompts import kl_row, rewriting_rows, subject_row
from tests.oracles.locate import at_subject, hidden, hooked, keys, memit, memit_round, share, value, whole_model


def alphaedit(lm, batches, templates, covariance, config):
    """Write batches of edits into the model: the published d_ff × d_ff form, with P and M as matrices."""
    projections, memory = {}, {layer: 0.0 for layer in config.layers}
    for layer in config.layers:
        u, s, _ = torch.linalg.svd(covariance[layer].double())
        projections[layer] = u[:, s < config.nullspace_threshold] @ u[:, s < config.nullspace_threshold].T
    for batch in batches:
        found = [value(lm, r, templates, config.layers[-1], "layer", config) for r in batch]
        targets = torch.stack([target for *_, target in found], 1)
        for j, layer in enumerate(config.layers):
            k, p = keys(lm, batch, templates, layer).double(), projections[layer]
            r = (targets - hidden(lm, batch, config.layers[-1])).double() / (len(config.layers) - j)
            matrix = p @ (k @ k.T + memory[layer]) + config.l2 * torch.eye(len(k), dtype=k.dtype)
            weight = lm.weight(lm.mlp_out_name(layer))
            weight.add_(torch.linalg.solve(matrix, p @ k @ r.T).T.to(weight))
        for layer in config.layers:
            k = keys(lm, batch, templates, layer).double()
            memory[layer] = memory[layer] + k @ k.T


def memit_seq(lm, batches, templates, covariance, config):
    """Write batches of edits into the model, one after another, with their keys in the matrix of the next."""
    matrices = {layer: config.covariance_weight * covariance[layer].double() for layer in config.layers}
    for batch in batches:
        found = [value(lm, r, templates, config.layers[-1], "layer", config) for r in batch]
        targets = torch.stack([target for *_, target in found], 1)
        memit_round(lm, batch, templates, matrices, config.layers, targets)
        for layer in config.layers:
            k = keys(lm, batch, templates, layer).double()
            matrices[layer] = matrices[layer] + k @ k.T


def keep_largest(weight, update, percent):
    """RECT: the numbers of ΔW in falling order of |ΔW / W|; those behind the first percent are zero."""
    at = sorted(
        ((i, j) for i in range(len(update)) for j in range(update.shape[1])),
        key=lambda ij: -abs(float(update[ij])) / (abs(float(weight[ij])) + 1e-8),
    )
    out, q = torch.zeros_like(update), int(len(at) * (100 - percent) / 100)
    for ij in at[: len(at) - q + 1]:
        out[ij] = update[ij]
    return out


def rect(lm, batch, templates, covariance, config):
    """Write a batch as MEMIT, take it back, and write the largest part of it."""
    before = {layer: lm.weight(lm.mlp_out_name(layer)).clone() for layer in config.layers}
    memit(lm, batch, templates, covariance, config)
    for layer, weight in before.items():
        now = lm.weight(lm.mlp_out_name(layer))
        now.copy_(weight + keep_largest(weight, now - weight, config.kept_percent))


def restrained(original, weight, base):
    """PRUNE: W_start + U S' Vᵀ, singular value by singular value."""
    bound = float(torch.linalg.svdvals(original)[0])
    u, s, v = torch.linalg.svd(weight - original)
    out = original.clone()
    for i, size in enumerate(s.tolist()):
        if size > bound:
            size = torch.tensor(size / bound).log().item() / torch.tensor(base).log().item() + bound
        out += size * torch.outer(u[:, i], v[i])
    return out


def emmet(lm, batch, templates, covariance, config):
    """Write a batch as equality constraints."""
    found = [value(lm, r, templates, config.layers[-1], "layer", config) for r in batch]
    targets = torch.stack([target for *_, target in found], 1)
    for j, layer in enumerate(config.layers):
        k = keys(lm, batch, templates, layer).double()
        r = share(lm, batch, layer, config.layers[-1], len(config.layers) - j, targets).double()
        inverse = torch.linalg.inv(config.covariance_weight * covariance[layer].double())
        inner = k.T @ inverse @ k + config.key_ridge * torch.eye(k.shape[1], dtype=k.dtype)
        weight = lm.weight(lm.mlp_out_name(layer))
        weight.add_((r @ torch.linalg.inv(inner) @ k.T @ inverse).to(weight))


def parts_value(lm, request, templates, layer, settings):
    """(goal for the MLP's output, losses) of one edit, with one δ on the attention's output and one on the MLP's."""
    rows = [*rewriting_rows(lm, request, templates), kl_row(lm, request)]
    delta = torch.zeros(2, lm.config.hidden_size, dtype=lm.model.dtype, requires_grad=True)
    optimiser, first, losses = torch.optim.Adam([delta], lr=settings.learning_rate), {}, []

    def adding(part):
        def add(tensor):
            out = tensor.clone().reshape(len(rows), -1, tensor.shape[-1])
            first.setdefault(part, out[0, rows[0].subject].detach().clone())
            for i, row in enumerate(rows):
                out[i, row.subject] = out[i, row.subject] + delta[part]
            return out.reshape(tensor.shape)

        return add

    handles = [hooked(module, adding(i)) for i, module in enumerate((lm.attention(layer), lm.mlp_out(layer)))]
    for step in range(settings.steps):
        optimiser.zero_grad()
        log_p = whole_model(lm, rows).log_softmax(-1)
        nll = 0.0
        for i, row in enumerate(rows[:-1]):
            nll = nll - sum(log_p[i, row.first + j, t] for j, t in enumerate(row.targets)) / len(row.targets)
        new = log_p[-1, rows[-1].subject]
        old = first.setdefault("old", new.detach())
        kl = settings.kl_factor * (new.exp() * (new - old)).sum()
        decay = settings.weight_decay * sum(delta[i].norm() / first[i].norm() ** 2 for i in range(2))
        loss = nll / len(templates) + kl + decay
        losses.append(float(loss.detach()))
        if losses[-1] < settings.stop_loss or step == settings.steps - 1:
            break
        loss.backward()
        optimiser.step()
        for i in range(2):
            bound = settings.clamp_norm_factor * first[i].norm()
            if delta[i].norm() > bound:
                delta.data[i] = delta.data[i] * bound / delta[i].norm()
    for handle in handles:
        handle.remove()
    return first[1] + delta.detach()[1], losses


def pmet(lm, batch, templates, covariance, config):
    """Write a batch's values of the MLP, R / √(layers left) in each layer; the losses by edit."""
    last = config.layers[-1]
    found = [parts_value(lm, r, templates, last, config) for r in batch]
    targets = torch.stack([target for target, _ in found], 1)
    for j, layer in enumerate(config.layers):
        k = keys(lm, batch, templates, layer).double()
        out = torch.stack([at_subject(lm, [subject_row(lm, r)], lm.mlp_out(last))[0] for r in batch], 1)
        r = (targets - out).double() / (len(config.layers) - j) ** 0.5
        matrix = config.covariance_weight * covariance[layer].double() + k @ k.T
        weight = lm.weight(lm.mlp_out_name(layer))
        weight.add_((r @ torch.linalg.solve(matrix, k).T).to(weight))
    return [losses for _, losses in found]

"""Locate-then-edit without any trick: the whole model, one edit at a time, hooks, nothing kept, autograd throughout."""

import torch

from editbench.locate_then_edit.prompts import kl_row, rewriting_rows, subject_row
from editbench.locate_then_edit.shifted_forward import AT_MLP


def whole_model(lm, rows):
    """Logits (B, T, V) of right-padded rows; attention is causal, so that padding behind a row does not matter."""
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[lm.pad_id] * (width - len(row.ids))] for row in rows], device=lm.device)
    return lm.model(input_ids=ids, use_cache=False).logits


def hooked(module, change, *, inputs=False):
    """Hand the module's output (or input) to ``change``, and put in its place what that gives back, if anything."""

    def before(_, args):
        change(args[0])

    def after(_, args, output):
        new = change(output[0] if isinstance(output, tuple) else output)
        return (new, *output[1:]) if isinstance(output, tuple) and new is not None else new

    return module.register_forward_pre_hook(before) if inputs else module.register_forward_hook(after)


def norm_behind(lm, layer):
    """The norm that the MLP's output goes through before it leaves the layer, or None."""
    named = {"Gemma2": "post_feedforward_layernorm", "Gemma3": "post_feedforward_layernorm"}
    for name, path in named.items():
        if type(lm.model).__name__.startswith(name):
            return getattr(lm.layers[layer], path)
    if type(lm.model).__name__.startswith("OPT") and not lm.model.config.do_layer_norm_before:
        return lm.layers[layer].final_layer_norm
    return None


def normalised(norm, x):
    """What a norm makes of ``x`` (d), in the dtype of ``x``."""
    if isinstance(norm, torch.nn.LayerNorm):
        weight, bias = norm.weight.to(x), norm.bias.to(x)
        return torch.nn.functional.layer_norm(x, x.shape, weight, bias, norm.eps)
    return x * (x.square().mean() + norm.eps).rsqrt() * (1 + norm.weight.to(x))


def towards(norm, x, y):
    """The input, of the mean and length of ``x`` (d), for which the norm is nearest to ``y`` (d): by descent."""
    mean = x.mean() if isinstance(norm, torch.nn.LayerNorm) else 0.0

    def like_x(z):
        z = z - z.mean() if isinstance(norm, torch.nn.LayerNorm) else z
        return z / z.norm() * (x - mean).norm() + mean

    z = x.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [z], max_iter=500, tolerance_grad=1e-11, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def distance():
        optimiser.zero_grad()
        loss = (normalised(norm, like_x(z)) - y).square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(distance)
    return like_x(z.detach())


def value(lm, request, templates, layer, at, settings):
    """(init, delta, losses, target) of one edit."""
    rows = [*rewriting_rows(lm, request, templates), kl_row(lm, request)]
    delta = torch.zeros(lm.config.hidden_size, dtype=lm.model.dtype, device=lm.device, requires_grad=True)
    optimiser, first, losses = torch.optim.Adam([delta], lr=settings.learning_rate), {}, []

    def add(tensor):
        out = tensor.clone().reshape(len(rows), -1, tensor.shape[-1])
        first.setdefault("init", out[0, rows[0].subject].detach().clone())
        for i, row in enumerate(rows):
            out[i, row.subject] = out[i, row.subject] + delta
        return out.reshape(tensor.shape)

    norm = norm_behind(lm, layer) if at != AT_MLP else None
    leaving = hooked(lm.layers[layer], lambda t: first.update(left=t[0, rows[0].subject].detach().clone()))
    handle = hooked(lm.layers[layer] if at != AT_MLP and norm is None else lm.mlp_out(layer), add)
    for step in range(settings.steps):
        optimiser.zero_grad()
        log_p = whole_model(lm, rows).log_softmax(-1)
        nll = 0.0
        for i, row in enumerate(rows[:-1]):
            nll = nll - sum(log_p[i, row.first + j, t] for j, t in enumerate(row.targets)) / len(row.targets)
        new = log_p[-1, rows[-1].subject]
        old = first.setdefault("old", new.detach())
        kl = settings.kl_factor * (new.exp() * (new - old)).sum()
        decay = settings.weight_decay * delta.norm() / first["init"].norm() ** 2
        loss = nll / len(templates) + kl + decay
        losses.append(float(loss.detach()))
        if losses[-1] < settings.stop_loss or step == settings.steps - 1:
            break
        loss.backward()
        optimiser.step()
        bound = settings.clamp_norm_factor * first["init"].norm()
        if delta.norm() > bound:
            delta.data = delta.data * bound / delta.norm()
    target = first["init"] + delta.detach()
    if norm is not None:
        with torch.no_grad():
            whole_model(lm, rows)
        target = first["left"]
    handle.remove()
    leaving.remove()
    return first["init"], delta.detach(), losses, target


@torch.no_grad()
def at_subject(lm, rows, module, *, inputs=False):
    """What ``module`` puts out (or takes in) at each row's subject token: (B, features)."""
    seen = []
    handle = hooked(module, lambda t: seen.append(t.reshape(len(rows), -1, t.shape[-1])), inputs=inputs)
    whole_model(lm, rows)
    handle.remove()
    return torch.stack([seen[0][i, row.subject] for i, row in enumerate(rows)])


def keys(lm, requests, templates, layer):
    """K (d_ff, n): half bare prompt, half mean of the other templates; one edit at a time."""
    columns = []
    for request in requests:
        x = at_subject(lm, [subject_row(lm, request, t) for t in templates], lm.mlp_out(layer), inputs=True)
        columns.append((x[0] + x[1:].mean(0)) / 2 if len(x) > 1 else x[0])
    return torch.stack(columns, 1)


def hidden(lm, requests, layer):
    """H (d, n): the layer's output for bare prompts."""
    return torch.stack([at_subject(lm, [subject_row(lm, r)], lm.layers[layer])[0] for r in requests], 1)


@torch.no_grad()
def covariance(lm, texts, layer):
    """C (d_ff, d_ff) of one layer, text by text."""
    total, count = 0.0, 0
    for text in texts:
        seen = []
        handle = hooked(lm.mlp_out(layer), seen.append, inputs=True)
        lm.model(input_ids=torch.tensor([lm.encode(text).ids], device=lm.device), use_cache=False)
        handle.remove()
        x = seen[0].reshape(-1, seen[0].shape[-1])
        total, count = total + (x.T @ x).double(), count + len(x)
    return total / count


def rome(lm, request, templates, inverse, config):
    """Write one edit into the model; ``inverse`` is C⁻¹, or None for a direction that is k̄'s own."""
    layer = config.layer
    *_, target = value(lm, request, templates, layer, AT_MLP, config)
    rows = [subject_row(lm, request, t) for t in templates]
    x = at_subject(lm, rows, lm.mlp_out(layer), inputs=True)
    out = at_subject(lm, rows[:1], lm.mlp_out(layer))[0]
    u = x.mean(0) if inverse is None else (inverse.double() @ x.mean(0).double()).to(x)
    u = u / u.norm()
    lm.weight(lm.mlp_out_name(layer)).add_(torch.outer((target - out) / (x[0] @ u), u))


def norm_input(lm, request, layer):
    """What enters the norm behind the MLP at the subject of the bare prompt (d)."""
    return at_subject(lm, [subject_row(lm, request)], norm_behind(lm, layer), inputs=True)[0]


def share(lm, requests, layer, last, left, targets):
    """R (d, n), edit by edit."""
    missing, columns = targets - hidden(lm, requests, last), []
    for i, request in enumerate(requests):
        move, norm = missing[:, i] / left, norm_behind(lm, last)
        if norm is not None and left > 1:
            x = norm_input(lm, request, last)
            goal = normalised(norm, x) + missing[:, i]
            move = goal - normalised(norm, x + (1 - 1 / left) * (towards(norm, x, goal) - x))
        norm = norm_behind(lm, layer)
        if norm is not None:
            x = norm_input(lm, request, layer)
            move = towards(norm, x, normalised(norm, x) + move) - x
        columns.append(move)
    return torch.stack(columns, 1)


def out_of_reach(lm, requests, last, targets):
    """What the last layer's norm cannot give of Z - H (d, n), edit by edit."""
    missing, columns = targets - hidden(lm, requests, last), []
    norm = norm_behind(lm, last)
    for i, request in enumerate(requests):
        x = norm_input(lm, request, last)
        goal = normalised(norm, x) + missing[:, i]
        columns.append(goal - normalised(norm, towards(norm, x, goal)))
    return torch.stack(columns, 1)


def memit_round(lm, requests, templates, matrices, layers, targets, pick=None):
    """Every layer in turn; behind norms again, as long as more than 0.5 % is out of the last one's reach."""
    bound = 0.005 * (targets - hidden(lm, requests, layers[-1])).norm(dim=0)
    bound = bound.clamp(min=float(bound.max()) / 100)
    memit_step(lm, requests, templates, matrices, layers, targets, pick)
    for _ in range(8 if norm_behind(lm, layers[-1]) is not None and len(layers) > 1 else 0):
        missed = out_of_reach(lm, requests, layers[-1], targets)
        if bool((missed.norm(dim=0) <= bound).all()):
            break
        reached = hidden(lm, requests, layers[-1]) + missed
        memit_step(lm, requests, templates, matrices, layers, reached, pick)


def memit_step(lm, requests, templates, matrices, layers, targets, pick=None):
    """Once over the layers; ``matrices`` are λC + M by layer, ``pick`` gives the neurons from the keys."""
    for j, layer in enumerate(layers):
        k = keys(lm, requests, templates, layer).double()
        r = share(lm, requests, layer, layers[-1], len(layers) - j, targets).double()
        s = torch.arange(len(k)) if pick is None else pick(k)
        adjusted = torch.linalg.solve(matrices[layer][s][:, s] + k[s] @ k[s].T, k[s])
        weight = lm.weight(lm.mlp_out_name(layer))
        weight[:, s] = weight[:, s] + (r @ adjusted.T).to(weight)


def memit(lm, requests, templates, covariance, config):
    """Write a batch of edits into the model."""
    found = [value(lm, r, templates, config.layers[-1], "layer", config) for r in requests]
    targets = torch.stack([target for *_, target in found], 1)
    matrices = {layer: config.covariance_weight * covariance[layer].double() for layer in config.layers}
    memit_round(lm, requests, templates, matrices, config.layers, targets)


def nse(lm, batches, templates, covariance, config, pick=None):
    """Write batches of edits into the model, one after another."""
    matrices = {layer: config.covariance_weight * covariance[layer].double() for layer in config.layers}
    found = [[value(lm, r, templates, config.layers[-1], "layer", config) for r in batch] for batch in batches]
    for batch, values in zip(batches, found, strict=True):
        targets = torch.stack([target for *_, target in values], 1)
        for _ in range(config.max_iterations - 1):
            distance = (targets - hidden(lm, batch, config.layers[-1])).norm(dim=0).tolist()
            kept = [i for i, e in enumerate(distance) if config.alpha < e < config.upper_bound]
            if not kept:
                break
            some = [batch[i] for i in kept]
            memit_round(lm, some, templates, matrices, config.layers, targets[:, kept], pick)
        for layer in config.layers:
            k = keys(lm, batch, templates, layer).double()
            matrices[layer] = matrices[layer] + k @ k.T

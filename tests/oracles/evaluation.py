"""The plain way to score a target: one prompt, one target, the whole model, all logits. Slow and easy to believe."""

import torch


@torch.no_grad()
def answer(lm, prompt, target, max_tokens=None):
    """(mean NLL, correct per token, argmax per token) of ``target`` after ``prompt``, gold prefix fed in."""
    if prompt:
        ids, gold = lm.encode(prompt).ids, lm.continuation(target)[:max_tokens]
    else:  # the target is a text of its own; nothing predicts its first token
        whole = lm.encode(target).ids[:max_tokens]
        ids, gold = whole[:1], whole[1:]
    if not gold:
        return float("nan"), (), ()
    tokens = torch.tensor([ids + gold], device=lm.device)
    logits = lm.model(input_ids=tokens, use_cache=False).logits[0]
    logits = logits if logits.dtype == torch.float64 else logits.float()
    log_p = torch.log_softmax(logits, dim=-1)
    nll, argmax = [], []
    for i, token in enumerate(gold):
        before = len(ids) - 1 + i  # the column whose output predicts gold[i]
        nll.append(-log_p[before, token].item())
        argmax.append(int(log_p[before].argmax()))
    return sum(nll) / len(nll), tuple(a == g for a, g in zip(argmax, gold, strict=True)), tuple(argmax)


def perplexity(lm, passages, max_tokens=None):
    """(token-weighted perplexity, mean over texts of each text's perplexity)."""
    found = [answer(lm, p.prompt, p.text, max_tokens) for p in passages]
    found = [(nll, len(argmax)) for nll, _, argmax in found if argmax]
    total = sum(nll * n for nll, n in found) / sum(n for _, n in found)
    means = torch.tensor([nll for nll, _ in found], dtype=torch.float64)
    return float(torch.tensor(total, dtype=torch.float64).exp()), float(means.exp().mean())


@torch.no_grad()
def generate(lm, prompt, limit):
    """Token ids generated after ``prompt``, greedily, the whole text run anew for each token; without the end token."""
    ids, new = lm.encode(prompt).ids, []
    while len(new) < limit:
        best = int(lm.model(input_ids=torch.tensor([ids + new]), use_cache=False).logits[0, -1].argmax())
        if best == lm.tokenizer.eos_token_id:
            break
        new.append(best)
    return new

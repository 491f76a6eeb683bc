"""Training of an edit network: losses of the edited model, through its changed weights, to the network.

Per group of examples: the network makes a change ΔW of each edited weight; the losses of the model with it have the
gradient G there; and the network's gradient is that of Σ G ⊙ ΔW, so that nothing but G is kept of a backward pass
(Mitchell et al., 2022, algorithm 1). Changes of a sequence of groups add up; then the model has its first bits again.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from editbench.files import DamagedFile, read_tensors, write_tensors
from editbench.model.architectures import is_transposed
from editbench.model.devices import float64_device, moved_to
from editbench.progress import progress

from .module_gradients import Seen, joined, shape_of
from .normalisation import Statistics, add_rows, from_tensors, to_tensors
from .training_rows import TrainingRows

if TYPE_CHECKING:
    from editbench.records import EditRequest

    from .network_config import NetworkConfig
    from .network_editor import NetworkEditor
    from .training_examples import Example

MIN_INTERVAL = 5.0  # seconds between two savings
MAX_SHARE = 1 / 20  # of the time, for saving


@dataclass(frozen=True)
class Plan:
    """How a network is trained, beside what :class:`~.network_config.NetworkConfig` says.

    Attributes:
        group: Examples that are edited at once.
        sequence: Groups whose changes add up before the weights are the first again; None: all of an epoch.
        accumulate: Groups whose mean gradient is a step of Adam, clipped then; None: those of a sequence, whose sum is
            clipped after each group.
        decay: Weight of the group before, and again of the one before that.
        back: Earlier groups that are asked at most.
        published_merge: Statistics as :meth:`~.normalisation.Normaliser.add` has them of the published code.
        published_locality: Differentiate the divergence with the group's change taken off the weights (RLEdit's code).
        regularisation: Factor of ‖ΔW‖².
        running: The statistics take each group in when it is edited; else all of them before the first step.
    """

    group: int = 1
    sequence: int | None = 1
    accumulate: int | None = None
    decay: float = 1.0
    back: int = 0
    published_merge: bool = False
    published_locality: bool = False
    regularisation: float = 0.0
    running: bool = False


@dataclass(frozen=True)
class Group:
    """Requests of a group of examples, in the wording of one epoch."""

    edits: list[EditRequest]
    rewrites: list[EditRequest]
    kept: list[EditRequest]


class NetworkTraining:
    """A training, and its state.

    Attributes:
        statistics: Running statistics of inputs and gradients.
        groups: Groups done.
    """

    def __init__(self, editor: NetworkEditor[Any], examples: Sequence[Example], plan: Plan) -> None:
        """Begin before the first group; a ValueError if locality counts and no example has a question for it."""
        self.editor, self.lm, self.network, self.plan = editor, editor.lm, editor.network, plan
        self.config: NetworkConfig = editor.config
        if self.config.locality_weight and not any(example.kept for example in examples):
            raise ValueError(
                "no training record has a question whose answer should stay; give records with locality questions, or "
                "set method.locality_weight=0"
            )
        self.examples, self.statistics, self.groups = examples, Statistics(), 0
        self.names = {name: f"{name}.weight" for name in editor.modules}
        self._original = {weight: self.lm.weight(weight).clone() for weight in self.names.values()}
        self._sums: dict[str, float] = {}
        self.history: list[dict[str, float]] = []  # mean losses of each epoch
        rates = [p for name, p in self.network.named_parameters() if name.endswith(".learning_rate")]
        others = [p for name, p in self.network.named_parameters() if not name.endswith(".learning_rate")]
        own = self.config.rate_learning_rate
        rate = self.config.network_learning_rate if own is None else own
        self.adam = torch.optim.Adam(
            [{"params": others, "lr": self.config.network_learning_rate}, {"params": rates, "lr": rate}]
        )

    # -- one group ------------------------------------------------------------------------------------------------

    def changes(self, edits: Sequence[EditRequest]) -> dict[str, Tensor]:
        """ΔW (d_out, d_in) of each module for a group of edits, to be differentiated for the network."""
        _, parts = self.editor.look(edits)
        if self.plan.running:
            self.take(parts)
        with torch.enable_grad():
            found = {}
            for name, pair in joined(parts).items():
                left, right = self.editor.factors(name, *pair, self.statistics.get(shape_of(self.lm, name)))
                found[name] = left @ right.T.to(left.dtype)
        return found

    def take(self, parts: Sequence[Seen]) -> None:
        """Add inputs and gradients to the statistics, pass by pass."""
        for seen in parts:
            for name, pair in seen.items():
                add_rows(self.statistics, shape_of(self.lm, name), pair, self.plan.published_merge)

    def learn(self, groups: Sequence[Group]) -> dict[str, float]:
        """Edit the first group, whose change stays, and add the network's gradient of it; the losses.

        The later ones are earlier groups of the sequence, the nearest first.
        """
        changes = self.changes(groups[0].edits)
        with torch.no_grad():
            kept = [TrainingRows(self.lm, group.kept) if group.kept else None for group in groups]
            before = [rows.log_p() if rows is not None else None for rows in kept]
        unchanged = {weight: self.lm.weight(weight).clone() for weight in self.names.values()}
        for name, change in changes.items():
            weight = self.lm.weight(self.names[name])
            weight.add_(change.detach().to(weight))
        edit_loss, locality_loss, found = self._weight_gradients(groups, kept, before, unchanged)
        extra, place = 2 * self.plan.regularisation, float64_device(self.network.device)
        with torch.enable_grad():
            inner = torch.stack(
                [((moved_to(found[n], c) + extra * c.detach()) * c).sum().to(place) for n, c in changes.items()]
            )
            torch.autograd.backward(inner.sum() / (self.plan.accumulate or 1))
        if self.plan.accumulate is None:
            self._clip()
        return {"edit": edit_loss, "locality": locality_loss}

    def _clip(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)

    def _weight_gradients(
        self,
        groups: Sequence[Group],
        kept: Sequence[TrainingRows | None],
        before: Sequence[Tensor | None],
        unchanged: Mapping[str, Tensor],
    ) -> tuple[float, float, dict[str, Tensor]]:
        """Losses on new answers and on those that should stay, and G (d_out, d_in) of both by module."""
        weights: list[Any] = [module.weight for module in self.editor.modules.values()]
        shares = [self.plan.decay**age for age in range(len(groups))]
        with self._differentiable(weights), torch.enable_grad():
            edit = torch.stack(
                [s * TrainingRows(self.lm, g.rewrites).nll().mean() for s, g in zip(shares, groups, strict=True)]
            ).sum()
            sums = torch.autograd.grad(self.config.edit_weight * edit, weights)
            locality = self._divergence(shares, kept, before)
            if locality is not None and self.config.locality_weight:
                changed = {weight: self.lm.weight(weight).clone() for weight in unchanged}
                if self.plan.published_locality:
                    self._set(unchanged)
                own = torch.autograd.grad(self.config.locality_weight * locality, weights)
                self._set(changed)
                sums = tuple(a + b for a, b in zip(sums, own, strict=True))
        oriented = [
            g.T if is_transposed(module) else g for g, module in zip(sums, self.editor.modules.values(), strict=True)
        ]
        found = dict(zip(self.editor.modules, oriented, strict=True))
        return float(edit.detach()), 0.0 if locality is None else float(locality.detach()), found

    def _divergence(
        self, shares: Sequence[float], kept: Sequence[TrainingRows | None], before: Sequence[Tensor | None]
    ) -> Tensor | None:
        """Σ share · KL(before ‖ after), each a mean over the tokens of the answers that should stay."""
        terms = [
            share * F.kl_div(rows.log_p(), old, reduction="batchmean", log_target=True)
            for share, rows, old in zip(shares, kept, before, strict=True)
            if rows is not None and old is not None
        ]
        return torch.stack(terms).sum() if terms else None

    @contextmanager
    def _differentiable(self, weights: Sequence[Any]) -> Iterator[None]:
        for weight in weights:
            weight.requires_grad_(True)
        try:
            yield
        finally:
            for weight in weights:
                weight.requires_grad_(False)

    def _set(self, weights: Mapping[str, Tensor]) -> None:
        """Write numbers into the weights, behind autograd's back."""
        for name, numbers in weights.items():
            self.lm.weight(name).copy_(numbers)

    # -- all groups -----------------------------------------------------------------------------------------------

    @property
    def groups_an_epoch(self) -> int:
        """Groups of all examples; the last may be smaller."""
        return -(-len(self.examples) // self.plan.group)

    def group(self, number: int) -> Group:
        """The group of this number, from the first epoch on: each epoch has another order, and other questions."""
        epoch, place = divmod(number, self.groups_an_epoch)
        order = list(range(len(self.examples)))
        Random(epoch).shuffle(order)
        chosen = [self.examples[i] for i in order[place * self.plan.group :][: self.plan.group]]
        return Group(
            [example.request for example in chosen],
            [example.rewrites[epoch % len(example.rewrites)] for example in chosen],
            [example.kept[epoch % len(example.kept)] for example in chosen if example.kept],
        )

    def run(self, file: Path, key: str, facts: Mapping[str, Any]) -> None:
        """Train to the end, from where an earlier process stopped, and write the network to a file."""
        partial = file.with_name(f"partial-{key}.safetensors")
        seconds, total = self._resume(partial, key), self.config.epochs * self.groups_an_epoch
        begun = saved = time.perf_counter()
        saving = 0.0
        try:
            if not self.plan.running and not self.statistics:
                self._take_all()
            with progress("training", total, self.groups) as advance:
                while self.groups < total:
                    losses = self._next(total)
                    advance(1, f"loss {losses['edit']:.3f}, locality {losses['locality']:.4f}")
                    now = time.perf_counter()
                    if now - saved >= max(MIN_INTERVAL, saving / MAX_SHARE):
                        self._save(partial, key, seconds + now - begun)
                        saved = time.perf_counter()
                        saving = saved - now
        finally:
            self._set(self._original)
        tensors = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"statistics/{name}": tensor for name, tensor in to_tensors(self.statistics).items()}
        own = {"seconds": seconds + time.perf_counter() - begun, "history": self.history}
        write_tensors(file, tensors, {**facts, **own})
        partial.unlink(missing_ok=True)

    def _take_all(self) -> None:
        """Take the statistics of all examples on the first weights."""
        step = self.config.edits_at_once
        with progress("statistics", len(self.examples)) as advance:
            for start in range(0, len(self.examples), step):
                part = self.examples[start : start + step]
                self.take(self.editor.look([example.request for example in part])[1])
                advance(len(part))

    def _next(self, total: int) -> dict[str, float]:
        """Learn the next group, and step and put the weights back where the plan says so."""
        plan, number = self.plan, self.groups
        place = number % self.groups_an_epoch
        length = self.groups_an_epoch if plan.sequence is None else plan.sequence
        since = place % length
        losses = self.learn([self.group(number - age) for age in range(min(since, plan.back) + 1)])
        self.groups += 1
        ends = since + 1 == length or place + 1 == self.groups_an_epoch
        steps = ends if plan.accumulate is None else self.groups % plan.accumulate == 0 or self.groups == total
        if steps:
            if plan.accumulate is not None:
                self._clip()
            self.adam.step()
            self.adam.zero_grad()
        if ends:
            self._set(self._original)
        self._note(losses, place + 1 == self.groups_an_epoch)
        return losses

    def _note(self, losses: Mapping[str, float], epoch_ends: bool) -> None:
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + loss
        if epoch_ends:
            self.history.append({name: total / self.groups_an_epoch for name, total in self._sums.items()})
            self._sums = {}

    # -- states ---------------------------------------------------------------------------------------------------

    def _save(self, file: Path, key: str, seconds: float) -> None:
        """Save everything that the groups to come depend on."""
        tensors = {f"statistics/{name}": tensor for name, tensor in to_tensors(self.statistics).items()}
        tensors |= {f"weight/{weight}": self.lm.weight(weight) for weight in self._original}
        for name, parameter in self.network.named_parameters():
            tensors[f"network/{name}"] = parameter.data
            if parameter.grad is not None:
                tensors[f"gradient/{name}"] = parameter.grad
            tensors |= {f"adam/{name}/{part}": value for part, value in self.adam.state[parameter].items()}
        facts = {"key": key, "groups": self.groups, "seconds": seconds, "sums": self._sums, "history": self.history}
        write_tensors(file, tensors, facts)

    def _resume(self, file: Path, key: str) -> float:
        """Go on from a saved state, if there is one; the seconds that it took."""
        if not file.is_file():
            return 0.0
        try:
            tensors, facts = read_tensors(file)
        except DamagedFile as error:
            warnings.warn(f"the saved training {file} is damaged ({error}) and begins again", stacklevel=2)
            return 0.0
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition("/")
            parts.setdefault(kind, {})[rest] = tensor
        self.statistics = from_tensors(parts.get("statistics", {}), self.editor.like, self.editor.title)
        self._set(parts["weight"])
        for name, parameter in self.network.named_parameters():
            parameter.data.copy_(parts["network"][name])
            if (gradient := parts.get("gradient", {}).get(name)) is not None:
                parameter.grad = gradient.to(parameter)
            adam = {n.rpartition("/")[2]: t for n, t in parts.get("adam", {}).items() if n.rpartition("/")[0] == name}
            if adam:
                self.adam.state[parameter] = {n: t if n == "step" else t.to(parameter) for n, t in adam.items()}
        self.groups, self._sums, self.history = facts["groups"], facts["sums"], facts["history"]
        return float(facts["seconds"])

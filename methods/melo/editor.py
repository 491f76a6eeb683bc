"""MELO: Enhancing Model Editing with Neuron-Indexed Dynamic LoRA (Yu et al., AAAI 2024).

Edits are trained in small groups, each a LoRA block on later layers. An index of clusters of keys says which block
answers a prompt. Weights never change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.editor import EditResult, Footprint
from editbench.memory_based.delta_answers import DeltaAnswers
from editbench.memory_based.editor import all_finite
from editbench.memory_based.journal import Entry, JournalledEditor
from editbench.memory_based.low_rank_block import as_delta, initial_factors
from editbench.memory_based.projection import Projection
from editbench.memory_based.target_rows import wide
from editbench.progress import progress
from editbench.records import NOT_FINITE, EditError, EditRequest, Route
from editbench.room import OF_AN_ENTRY, Room

from .clusters import Change, Cluster, Point
from .config import PUBLISHED, SOUND, MELOConfig
from .index import Index
from .rows import EditRows, PublishedRows, Rows, published_row
from .rules import decide
from .training import train_block

if TYPE_CHECKING:
    from torch import nn

    from editbench.ledger import Ledger, Transaction
    from editbench.memory_based.compression import CompressedDelta
    from editbench.memory_based.routing import Prompts
    from editbench.model.language_model import LanguageModel
    from editbench.model.shape import Shape
    from editbench.resources import Resources
    from editbench.room import Workload

Factors = list[tuple[Tensor, Tensor]]  # A and B by layer


class MELO(JournalledEditor[MELOConfig]):
    """Trains LoRA blocks and keeps the index.

    Attributes:
        given_factors: Starts of blocks by number; others are drawn from the seed.
    """

    title = "MELO"
    paper = "Yu et al., AAAI 2024 (arXiv 2312.11795)"
    config_class = MELOConfig
    version = 2
    decides_by_outputs = True

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: MELOConfig, resources: Resources | None = None):
        """Start with an empty index."""
        super().__init__(lm, ledger, config, resources)
        self.lora_at = [Projection.of(lm, layer, config.projection) for layer in config.lora_layers]
        self.index = Index()
        self.blocks: dict[int, Factors] = {}
        self.next_block = 0
        self.given_factors: Mapping[int, Factors] = {}

    # -- editing ------------------------------------------------------------------------------------------------------

    @classmethod
    def room(cls, config: MELOConfig, shape: Shape, work: Workload) -> Room:
        """A key of every edit, and a block for each group, which is trained through the layers above the first."""
        keys = shape.projection(config.layer, config.projection)[1] * shape.wide
        blocks = [config.rank * sum(shape.projection(at, config.projection)) for at in config.lora_layers]
        size, group = sum(blocks) * shape.wide, min(work.batch, config.edits_per_block)
        count = work.batches * -(-work.batch // config.edits_per_block)
        passed = shape.training(
            group * work.row,
            group * work.answer,
            shape.layers - config.lora_layers[0] - (config.projection == "second"),
        )
        kept = work.edits * keys + count * size
        return Room(kept=kept, editing=4 * size + passed, disk=kept + work.edits * OF_AN_ENTRY)

    def rows(self, request: EditRequest) -> Sequence[Sequence[int]]:
        """The published row, which has an end text."""
        return () if self.config.rules == SOUND else (published_row(self.lm, request),)

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Index the edits in order and train a block for each group."""
        size, entries = self.config.edits_per_block, list[Entry]()
        with self.index.trial(), progress("LoRA blocks", len(batch)) as advance:
            for start in range(0, len(batch), size):
                group = batch[start : start + size]
                entries.append(self._edit(group, self.next_block + len(entries), result))
                advance(len(group))
        self.keep(transaction, entries)

    def _edit(self, group: Sequence[EditRequest], block: int, result: EditResult) -> Entry:
        """Change the index for the edits of a block, and train it."""
        rows = self._rows(group)
        keys = rows.keys.to(wide(rows.keys.dtype))
        if bad := [r.id for r, sound in zip(group, all_finite(keys), strict=True) if not sound]:
            raise EditError(bad, "the key is NaN or infinite", NOT_FINITE)
        changes = self._index(group, keys, rows.labels, block)
        if (last := _not_replaced(group, changes)) != list(group):
            rows = self._rows(last)
        name, rank, weight = f"block {block}", self.config.rank, self.lm.weight
        drawn = [initial_factors(at, rank, self.resources.seed, name, weight(at.weight)) for at in self.lora_at]
        factors, losses = train_block(rows, self.lora_at, self.given_factors.get(block, drawn), self.config)
        if not all(bool(part.isfinite().all()) for pair in factors for part in pair):
            raise EditError([r.id for r in group], "the LoRA block became NaN or infinite", NOT_FINITE)
        size = sum(part.nbytes for pair in factors for part in pair) // len(group)
        for request, change, key in zip(group, changes, keys, strict=True):
            result.losses[request.id] = losses
            facts = {
                "event": change.event,
                "block": block,
                "bytes": size + key.nbytes,
                "replaced": list(change.dropped),
            }
            result.details.setdefault("edits", {})[request.id] = facts
        return _entry(group, keys, changes, block, factors)

    def _rows(self, group: Sequence[EditRequest]) -> Rows:
        if self.config.rules == SOUND:
            return EditRows(self.lm, self.projection, self.lora_at[0], group, self.config.train_eos)
        return PublishedRows(self.lm, self.projection, group, self.config.train_eos)

    def _index(
        self, group: Sequence[EditRequest], keys: Tensor, labels: Sequence[tuple[int, ...]], block: int
    ) -> list[Change]:
        index, published, changes = self.index, self.config.rules == PUBLISHED, list[Change]()
        before: Sequence[tuple[int, float] | None] = index.nearest(keys) if index.clusters else [None] * len(keys)
        for i, (request, key, label) in enumerate(zip(group, keys, labels, strict=True)):
            near = before[i] if published or not i else index.nearest(key[None])[0]
            change = decide(index, request, key, label, self.config, near)
            index.apply(change, Point(request.id, request.prompt, key, block))
            changes.append(change)
        return changes

    # -- the memory ---------------------------------------------------------------------------------------------------

    @property
    def held(self) -> set[str]:
        """Ids of the edits that have a key."""
        return {point.edit for cluster in self.index.clusters for point in cluster.points}

    def take(self, entry: Entry) -> None:
        """Add a block and the points of its edits."""
        block, keys = int(entry.metadata["block"]), entry.tensors["keys"].to(self.lm.device_of(self.projection.module))
        self.blocks[block] = self._factors(entry.tensors)
        for facts, key in zip(entry.metadata["edits"], keys, strict=True):
            left = self.index.apply(Change.of(facts["change"]), Point(facts["id"], facts["prompt"], key, block))
            self._sweep(left)
        self.next_block = block + 1

    def _factors(self, tensors: Mapping[str, Tensor], prefix: str = "") -> Factors:
        """Those of a block, each pair on the device of its projection."""
        devices = [self.lm.device_of(at.module) for at in self.lora_at]
        return [(tensors[f"{prefix}a{i}"].to(d), tensors[f"{prefix}b{i}"].to(d)) for i, d in enumerate(devices)]

    def drop(self, id: str) -> None:
        """Take an edit's keys out of the index, and a block that no key points to any more."""
        self._sweep(self.index.drop(id))

    def _sweep(self, left: Sequence[Point]) -> None:
        """Remove the blocks that no key points to any more, of points that left."""
        for block in {point.block for point in left}:
            if not self.index.edits_with(("block", block)):
                self.blocks.pop(block, None)

    def clear(self) -> None:
        """Empty index and blocks."""
        self.index, self.blocks, self.next_block = Index(), {}, 0

    def state(self) -> dict[str, Tensor]:
        """Index and blocks."""
        if not self.next_block:
            return {}
        points = [point for cluster in self.index.clusters for point in cluster.points]
        facts: dict[str, Any] = {"next": self.next_block, "blocks": list(self.blocks), "clusters": []}
        for one in self.index.clusters:
            own = [{"edit": p.edit, "prompt": p.prompt, "block": p.block} for p in one.points]
            facts["clusters"].append(
                {"radius": one.radius, "label": one.label, "label_sum": one.label_sum, "points": own}
            )
        state = {"centres": self.index.centres.clone()} if self.index.clusters else {}
        if points:
            state["keys"] = torch.stack([point.key for point in points])
        for block, factors in self.blocks.items():
            for i, (a, b) in enumerate(factors):
                state |= {f"{block}.a{i}": a, f"{block}.b{i}": b}
        text = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
        return {**{name: tensor.cpu().contiguous() for name, tensor in state.items()}, "facts": text}

    def fill(self, state: Mapping[str, Tensor]) -> None:
        """Replace index and blocks by those of ``state``; a ValueError if it is another method's."""
        self.clear()
        if not state:
            return
        device = self.lm.device_of(self.projection.module)
        try:
            facts = json.loads(bytes(state["facts"].cpu().numpy()).decode())
            keys, clusters = iter(state.get("keys", torch.empty(0)).to(device)), []
            for one, centre in zip(facts["clusters"], state.get("centres", torch.empty(0)).to(device), strict=True):
                points = tuple(Point(p["edit"], p["prompt"], next(keys), p["block"]) for p in one["points"])
                label = tuple(one["label"]), one["label_sum"]
                clusters.append(Cluster(centre, one["radius"], *label, points))
            blocks = {block: self._factors(state, f"{block}.") for block in facts["blocks"]}
            self._check_shapes(state, blocks)
        except (KeyError, ValueError) as error:
            raise ValueError(f"this is not the state of LoRA blocks ({error})") from error
        self.index, self.blocks, self.next_block = Index(clusters), blocks, facts["next"]

    def _check_shapes(self, state: Mapping[str, Tensor], blocks: Mapping[int, Factors]) -> None:
        """A ValueError for keys or blocks of another model, or of other layers."""
        width, sizes = self.projection.d_out, [(at.d_in, at.d_out) for at in self.lora_at]
        for name in ("centres", "keys"):
            if name in state and state[name].shape[1] != width:
                raise ValueError(f"its {name} have {state[name].shape[1]} numbers, those of this model {width}")
        for block, factors in blocks.items():
            if [(len(a), b.shape[1]) for a, b in factors] != sizes or f"{block}.a{len(sizes)}" in state:
                raise ValueError(f"block {block} is of other layers, or of another model")

    def footprint(self) -> Footprint:
        """Keys, centres and blocks."""
        clusters = self.index.clusters
        keys = [point.key for one in clusters for point in one.points]
        return Footprint.of(
            [*keys, *(one.centre for one in clusters), *(t for f in self.blocks.values() for p in f for t in p)]
        )

    # -- answering ----------------------------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether no block is left."""
        return not self.blocks

    @property
    def answering_modules(self) -> list[nn.Module]:
        """The projections with LoRA."""
        return [at.module for at in self.lora_at]

    def choose(self, prompts: Prompts) -> DeltaAnswers:
        """The blocks of the nearest keys, where their cluster is near enough."""
        points = [point for point, _ in self.index.find(prompts.last)]
        blocks = {point.block for point in points if point is not None}
        deltas: list[dict[str, CompressedDelta]] = [
            {f"block {block}": as_delta(*self.blocks[block][place], self.config.scale) for block in blocks}
            for place in range(len(self.lora_at))
        ]
        return DeltaAnswers([None if point is None else f"block {point.block}" for point in points], deltas)

    @torch.no_grad()
    def route(self, prompts: Sequence[str]) -> list[Route]:
        """The edit whose key is nearest, with those that share its block, and the radius less the distance."""
        if self.empty:
            return [Route(None, 0.0)] * len(prompts)
        found = []
        for point, inside in self.index.find(self.projection.outputs(self.inputs_at_ends(prompts))):
            others = () if point is None else self.index.edits_with(("block", point.block))
            found.append(Route(None if point is None else point.edit, inside, tuple(others)))
        return found


def _not_replaced(group: Sequence[EditRequest], changes: Sequence[Change]) -> list[EditRequest]:
    """Edits that no later one of their group replaces: the others are not to be trained against it."""
    later = [{id for change in changes[i + 1 :] for id in change.dropped} for i in range(len(group))]
    return [request for request, replaced in zip(group, later, strict=True) if request.id not in replaced]


def _entry(
    group: Sequence[EditRequest], keys: Tensor, changes: Sequence[Change], block: int, factors: Factors
) -> Entry:
    tensors = {"keys": keys}
    for i, (a, b) in enumerate(factors):
        tensors |= {f"a{i}": a, f"b{i}": b}
    edits = [
        {"id": request.id, "prompt": request.prompt, "change": change.metadata()}
        for request, change in zip(group, changes, strict=True)
    ]
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return Entry(kept, {"block": block, "edits": edits})

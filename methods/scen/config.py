"""Settings of SCEN."""

from __future__ import annotations

from dataclasses import dataclass, field

from editbench.checks import at_least, one_of
from editbench.memory_based.irrelevant import check_prompts
from editbench.search_space import Layer, Range

STORES = ("dense", "lowrank", "quantised", "auto")


@dataclass
class SCENConfig:
    """Customized expert networks and indexing neurons.

    Defaults are the published ones for Llama-2-7B on ZsRE, except for ``train_eos``.

    Attributes:
        layer: Layer whose second MLP projection the experts replace.
        expert_steps: Adam steps of an expert.
        learning_rate: Adam's, for experts and neurons.
        neuron_steps: Adam steps of an indexing neuron.
        neuron_learning_rate: Adam's, for neurons; null for ``learning_rate``.
        lr_after_first: Learning rate of all neurons but the first (the published code drops to 1e-4); null for no drop.
        theta: An expert answers when its neuron's activation exceeds this.
        theta_texts: θ where text collections are scored (perplexity); null for ``theta``. The published code has 0.6
            there, whatever ``theta`` is.
        train_eos: Experts learn to close the answer with the EOS token; the published code for ZsRE does it.
        edits_at_once: Experts trained together, ahead of the stream's batches if these are smaller. One takes 16 bytes
            for each number of the projection.
        expert_store: "dense", "lowrank", "quantised", or "auto": for each expert the smallest that keeps its answer.
        bits: 8, 4 or 2, for "quantised".
        rank_error: "lowrank" takes the smallest rank whose relative error on the edit's own inputs is within this.
        loss_margin: "auto" lets the edit's loss grow by this, nats per token.
        device_bytes: Bytes of experts on the layer's device; the least recently used move to host memory. null: any.
        host_bytes: Bytes of experts in host memory; others are read from the run's ledger, or ``bank_directory``.
            null: any.
        bank_directory: Folder with one file an expert, written with each edit; null for none.
        negatives: Plain prompts of other subjects on which no neuron may fire (beyond the paper).
        cosine: Neurons see x / ‖x‖ (beyond the paper).
        hinge: Negatives within the margins no longer train a neuron (beyond the paper).
    """

    layer: int = field(default=20, metadata={"search": Layer(of=32)})
    expert_steps: int = field(default=10, metadata={"search": Range(5, 40)})
    learning_rate: float = field(default=1e-4, metadata={"search": Range(1e-5, 1e-2, log=True)})
    neuron_steps: int = field(default=20, metadata={"search": Range(10, 100)})
    neuron_learning_rate: float | None = field(default=None, metadata={"search": Range(1e-4, 0.2, log=True)})
    lr_after_first: float | None = None
    theta: float = field(default=0.65, metadata={"search": Range(0.5, 0.9)})
    theta_texts: float | None = None
    train_eos: bool = False
    edits_at_once: int = 4
    expert_store: str = "dense"
    bits: int = 4
    rank_error: float = 0.05
    loss_margin: float = 0.05
    device_bytes: int | None = None
    host_bytes: int | None = None
    bank_directory: str | None = field(default=None, metadata={"path": "written"})
    negatives: list[str] = field(default_factory=list, metadata={"learnt": True})
    cosine: bool = False
    hinge: bool = False

    def __post_init__(self) -> None:
        at_least(1, expert_steps=self.expert_steps, neuron_steps=self.neuron_steps, edits_at_once=self.edits_at_once)
        one_of(STORES, expert_store=self.expert_store)
        check_prompts(negatives=self.negatives)
        if self.bits not in (8, 4, 2):
            raise ValueError(f"bits is {self.bits}; it must be 8, 4 or 2")

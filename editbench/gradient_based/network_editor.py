"""Base class of editors with a trained network: MEND and RLEdit."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch

from editbench.costs import NETWORK
from editbench.editor import Capabilities, Editor, EditResult, Footprint
from editbench.records import EditRequest
from editbench.room import Room

from . import network_files
from .module_gradients import ANSWER, Seen, editwise, joined, linear_modules, passes, shape_of
from .network import EditNetwork
from .network_config import TRAINED, UNTRAINED, NetworkConfig
from .network_training import NetworkTraining, Plan
from .normalisation import Normaliser, Statistics, from_tensors
from .room import named_layers, of_network, of_passes
from .solve import norm, product
from .training_examples import digest_of, examples_of

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.ledger import Ledger, Transaction
    from editbench.model.language_model import LanguageModel
    from editbench.model.shape import Shape
    from editbench.resources import Resources
    from editbench.room import Workload

    from .training_rows import TrainingRows

C = TypeVar("C", bound=NetworkConfig)


class NetworkEditor(Editor[C]):
    """An editor whose network makes an edit of inputs and gradients, all from one backward pass.

    A subclass says which modules it edits (:meth:`names`), what the network's rows become (:meth:`factors`), and how it
    is trained (:meth:`plan`).

    Attributes:
        modules: Those that are edited, by name.
        network: As trained, or as training begins.
        trained_statistics: Running statistics at the end of the training.
    """

    capabilities = Capabilities(needs_training=True)
    scale_inside: ClassVar[bool]  # a block's scale and shift stand inside its non-linearity
    ridge: ClassVar[bool] = False  # each module has a trained ridge
    tokens: ClassVar[str] = ANSWER  # whose inputs and gradients the network gets
    own_prompt: ClassVar[bool] = False  # the edit's own prompt is trained like its paraphrases

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: C, resources: Resources | None = None) -> None:
        """Find the modules and the network. A ValueError with the command that trains one if there is none."""
        super().__init__(lm, ledger, config, resources)
        names = [name.removesuffix(".weight") for name in self.edited_weights()]
        self.modules = linear_modules(lm, names)
        weight = lm.weight(f"{names[0]}.weight")
        self.like = weight.new_empty(0, dtype=torch.promote_types(weight.dtype, torch.float32))
        self.network = EditNetwork(
            {name: shape_of(lm, name) for name in names},
            rank=config.rank,
            blocks=config.blocks,
            learning_rate=config.learning_rate,
            scale_inside=self.scale_inside,
            ridge=self.ridge,
        ).to(self.like)
        self.trained_statistics: Statistics = {}
        self._trained_on: dict[str, str] = {}  # ids of the training records by the hash of what they edit
        self._network_name = UNTRAINED
        if config.network != UNTRAINED:
            self._take(self._found())

    # -- for subclasses -------------------------------------------------------------------------------------------

    @abstractmethod
    def names(self, layer: int) -> list[str]:
        """Modules of a layer that are edited."""

    @abstractmethod
    def factors(
        self, name: str, inputs: Tensor, gradients: Tensor, normaliser: Normaliser | None
    ) -> tuple[Tensor, Tensor]:
        """Left (d_out, N) and right (d_in, N), whose product is the change of a module's weight."""

    @abstractmethod
    def plan(self) -> Plan:
        """How the network is trained."""

    def loss(self, rows: TrainingRows, nll: Tensor) -> Tensor:
        """The loss whose gradients the network gets, of the NLL (N,) of all trained tokens."""
        return editwise(rows, nll)

    @classmethod
    def room(cls, config: C, shape: Shape, work: Workload) -> Room:
        """The network, a pass from the first edited module on, and a change as thin as the tokens that make it."""
        layers = named_layers(config.modules) or config.layers
        sizes = shape.linear(config.modules) if config.modules else cls.sizes(shape, layers)
        tokens = work.answer if cls.tokens == ANSWER else work.row + 1
        network = of_network(config, sizes) * shape.wide
        passed = of_passes(shape, work, config, sizes, min(layers, default=0), tokens)
        return passed + Room(kept=network)

    @classmethod
    def sizes(cls, shape: Shape, layers: Sequence[int]) -> list[tuple[int, int]]:
        """(in, out) of the modules of :meth:`names` in these layers: the second projections."""
        return [shape.projection(layer) for layer in layers]

    def layers(self) -> list[int]:
        """Those of the config, where it names no modules."""
        return [] if self.config.modules else self.config.layers

    def edited_weights(self) -> list[str]:
        """Those of the config's modules, or of its layers."""
        names = self.config.modules or [name for layer in self.config.layers for name in self.names(layer)]
        return [f"{name}.weight" for name in names]

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Apply what the network makes of the batch's inputs and gradients."""
        self._refuse_trained(batch)
        losses, parts = self.look(batch)
        result.losses.update(losses)
        statistics, norms = self.statistics_with(parts, transaction), {}
        with torch.no_grad():
            for name, pair in joined(parts).items():
                left, right = self.factors(name, *pair, statistics.get(shape_of(self.lm, name)))
                change = product(f"{name}.weight", (self.config.update_scale * left).to(self.like), right.to(self.like))
                transaction.apply(change)
                norms[name] = norm(change)
        result.details |= {"update_norms": norms, "network": self._network_name}

    def statistics_with(self, parts: Sequence[Seen], transaction: Transaction) -> Statistics:
        """The statistics by which a batch, of these passes, is normalised: the training's."""
        return self.trained_statistics

    def look(self, batch: Sequence[EditRequest]) -> tuple[dict[str, list[float]], list[Seen]]:
        """Losses by edit, and inputs and gradients by module of each pass, on the weights as they are."""
        losses, parts = dict[str, list[float]](), list[Seen]()
        for of_part, seen in passes(
            self.lm,
            self.modules,
            batch,
            at_once=self.config.edits_at_once,
            train_eos=self.config.train_eos,
            loss=self.loss,
            tokens=self.tokens,
        ):
            losses |= of_part
            parts.append(seen)
        return losses, parts

    # -- the trained network --------------------------------------------------------------------------------------

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Refuse requests that the network was trained on."""
        self._refuse_trained(requests)

    @classmethod
    def prepares(cls, config: C) -> bool:
        """Nothing: ``editbench train`` does."""
        return False

    def train(self, out: str | Path | None = None) -> Path:
        """Train the network on the training records, or go on; the file of the network, in the cache or ``out``."""
        if self.config.network != UNTRAINED:
            raise ValueError(f"method.network is {self.config.network!r}; a network is trained from {UNTRAINED!r}")
        if out is None and self.resources.cache is None:
            raise ValueError("a network is trained into a file: give the resources a cache, or train(out=…) a place")
        records, deciding = self.resources.training_records, self._deciding()
        file = Path(out) if out else network_files.cached_file(self.resources.cache or Path(), deciding)
        if file.is_file() and network_files.read(file).facts["key"] == deciding:
            return file
        file.parent.mkdir(parents=True, exist_ok=True)
        hashes = {self.resources.hash_of(record.request): record.id for record in records}
        with self.ledger.pristine():
            training = NetworkTraining(self, examples_of(records, self.own_prompt), self.plan())
            training.run(file, network_files.key_of(deciding), {"key": deciding, "records": hashes})
        return file

    def _deciding(self) -> dict[str, Any]:
        """All that decides a training, as JSON types."""
        left_out = [f.name for f in fields(self.config) if f.metadata.get("editing")]
        known = self.resources.load_training_records is not None
        records = digest_of(examples_of(self.resources.training_records, self.own_prompt)) if known else None
        with self.ledger.pristine():
            weights = network_files.weights_digest(self.lm, self.modules)
        return {
            "version": network_files.VERSION,
            "method": type(self).__name__,
            "formula": self.version,
            "weights": weights,
            "modules": list(self.modules),
            "settings": {name: value for name, value in asdict(self.config).items() if name not in left_out},
            network_files.RECORDS: records,
        }

    def _found(self) -> network_files.TrainedNetwork:
        """The network of the config, or a ValueError with the command that trains it."""
        if self.config.network != TRAINED:
            return network_files.read(Path(self.config.network).expanduser())
        package = Path(inspect.getfile(type(self))).parent
        found = network_files.find(self.resources.cache, package / network_files.FOLDER, self._deciding())
        if found is None:
            dataset = self.resources.dataset or "NAME"
            raise ValueError(
                f"no network of {self.title} is known for {self.lm.name}, these training records and these settings; "
                f"train it with: editbench train method={package.name} model={self.lm.name} dataset={dataset} (and the "
                f"run's other settings of model, dataset and method), or give method.network={UNTRAINED} or a file"
            )
        return found

    def _take(self, found: network_files.TrainedNetwork) -> None:
        own = {name.removeprefix("network/"): t for name, t in found.tensors.items() if name.startswith("network/")}
        try:
            self.network.load_state_dict(own)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{found.name} is a network for other modules or settings: {reason}") from error
        kept = {n.removeprefix("statistics/"): t for n, t in found.tensors.items() if n.startswith("statistics/")}
        self.trained_statistics = from_tensors(kept, self.like, self.title)
        self._trained_on, self._network_name = dict(found.facts["records"]), f"{found.name} {found.digest[:16]}"
        self.resources.costs.note(NETWORK, float(found.facts["seconds"]), read=True)
        self.resources.costs.digests[found.name] = found.digest

    def _refuse_trained(self, requests: Iterable[EditRequest]) -> None:
        for request in requests if self._trained_on else ():
            if (id := self._trained_on.get(self.resources.hash_of(request))) is not None:
                raise ValueError(
                    f"{self.title} was trained on what record {request.id!r} edits (training record {id!r}, "
                    f"{self._network_name}): edit records of another split, dataset.split=stream"
                )

    def footprint(self) -> Footprint:
        """The network and the statistics, whatever the number of edits."""
        kept = [tensor for one in self.kept_statistics().values() for tensor in one.tensors().values()]
        return Footprint.of([*(p.data for p in self.network.parameters()), *kept])

    def kept_statistics(self) -> Mapping[str, Normaliser]:
        """The statistics in memory."""
        return self.trained_statistics

"""The saved state of a run: enough to go on after a crash, in ``ledger/state.safetensors``."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from editbench.files import replacing
from editbench.ledger import LedgerError

if TYPE_CHECKING:
    from pathlib import Path

    from editbench.editor import Editor


LEAST_SECONDS = 5.0
"""A state is saved at most this often…"""

COST_FACTOR = 20.0
"""… and only when the last saving took less than one part in this many of the time since."""


class RunCheckpoint:
    """Saves and restores (batches done, weights through the ledger, the method's memory, what was measured)."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "state.safetensors"
        self._last, self._cost = time.monotonic(), 0.0

    @property
    def exists(self) -> bool:
        """Whether a state was saved; the first is saved behind the baseline's rows."""
        return self.file.is_file()

    def save_if_due(self, batches: int, editor: Editor[Any], measured: dict[str, Any]) -> None:
        """Save if enough time has passed since the last saving."""
        since = time.monotonic() - self._last
        if since >= max(LEAST_SECONDS, COST_FACTOR * self._cost):
            self.save(batches, editor, measured)

    def save(self, batches: int, editor: Editor[Any], measured: dict[str, Any]) -> None:
        """Write the state: complete and on disk, or the old one stays."""
        import torch
        from safetensors.torch import save

        begun = time.monotonic()
        tensors = {f"state.{k}": t.detach().cpu().contiguous() for k, t in editor.state().items()}
        meta = {
            "batches": str(batches),
            "entries": str(len(editor.ledger)),
            "digest": editor.ledger.digest(),
            "measured": json.dumps(measured),
        }
        data = save(tensors or {"empty": torch.zeros(0)}, metadata=meta)
        with replacing(self.file) as temporary:
            temporary.write_bytes(data)
        self._last, self._cost = time.monotonic(), time.monotonic() - begun

    def restore(self, editor: Editor[Any]) -> tuple[int, dict[str, Any]]:
        """Bring the unedited model and a fresh editor to the saved state; (0, {}) where nothing was saved.

        Raises:
            LedgerError: The saved files are damaged, or replaying them gives other weights than the run had.
        """
        from safetensors import SafetensorError, safe_open

        if not self.exists:
            editor.ledger.replay(keep=0)
            return 0, {}
        try:
            with safe_open(str(self.file), framework="pt") as handle:
                meta = handle.metadata()
                tensors = {k[len("state.") :]: handle.get_tensor(k) for k in handle.keys() if k.startswith("state.")}  # noqa: SIM118
            batches, entries, measured = int(meta["batches"]), int(meta["entries"]), json.loads(meta["measured"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise LedgerError(f"{self.file} is damaged ({error}); start again with results.rerun=true") from error
        editor.ledger.replay(keep=entries)
        if editor.ledger.digest() != meta["digest"]:
            raise LedgerError(
                f"replaying {self.file.parent} gives other weights than the run had (another machine, thread count or "
                "library version?); start again with results.rerun=true"
            )
        editor.restore(tensors)
        return batches, measured

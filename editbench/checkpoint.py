"""A run's checkpoint, ``ledger/state.safetensors``: with the ledger and the rows, enough to resume the run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.files import DamagedFile, check_tensors, read_bytes, read_tensors, write_tensors
from editbench.ledger import RERUN, LedgerError
from editbench.results.schema import STATE_FILE

if TYPE_CHECKING:
    from editbench.editor import Editor

MIN_INTERVAL = 5.0  # seconds between two savings, at least
MAX_SHARE = 1 / 20  # saving takes at most this share of the run's time


class RunCheckpoint:
    """Saves and restores the batches done, the weights (by the ledger), the rest of the memory, and costs so far."""

    def __init__(self, ledger_folder: Path) -> None:
        self.file = ledger_folder / STATE_FILE.rpartition("/")[2]
        self._last, self._seconds = time.monotonic(), 0.0

    @property
    def exists(self) -> bool:
        """Whether a state was saved; the first is saved after the rows of the unedited model."""
        return self.file.is_file()

    @property
    def head(self) -> str:
        """Head of the run's chain when the state was saved; empty if none was."""
        return str(check_tensors(read_bytes(self.file), str(self.file))[0].get("head", "")) if self.exists else ""

    @property
    def batches(self) -> int:
        """Number of batches done when the state was saved; 0 if none was."""
        return int(check_tensors(read_bytes(self.file), str(self.file))[0].get("batches", 0)) if self.exists else 0

    def save_if_due(self, batches: int, head: str, editor: Editor[Any], measured: dict[str, Any]) -> None:
        """Save if enough time has passed since the last saving."""
        if time.monotonic() - self._last >= max(MIN_INTERVAL, self._seconds / MAX_SHARE):
            self.save(batches, head, editor, measured)

    def save(self, batches: int, head: str, editor: Editor[Any], measured: dict[str, Any]) -> None:
        """Replace the state atomically by that after ``batches`` batches, with the head of their chain."""
        begun = time.monotonic()
        metadata = {
            "batches": batches,
            "ledger_batches": len(editor.ledger),
            "weights": editor.ledger.digest(),
            "head": head,
            "measured": json.dumps(measured),  # may hold numbers that are not finite
        }
        write_tensors(self.file, editor.state_beside_ledger(), metadata)
        self._last, self._seconds = time.monotonic(), time.monotonic() - begun

    def restore(self, editor: Editor[Any], cut: bool = True) -> tuple[int, dict[str, Any]]:
        """Bring the unedited model and a new editor to the saved state; (0, {}) where nothing was saved.

        With ``cut`` what the ledger's files hold beyond that state is deleted; without it, nothing is written.
        """
        if not self.exists:
            editor.ledger.replay(keep=0)
            return 0, {}
        tensors, metadata = read_tensors(self.file)
        try:
            keep, digest = metadata["ledger_batches"], metadata["weights"]
            batches, measured = metadata["batches"], json.loads(metadata["measured"])
        except KeyError as error:
            raise DamagedFile(f"{self.file} is damaged ({error} is missing); {RERUN}") from error
        editor.ledger.replay(keep, cut)
        if editor.ledger.digest() != digest:
            raise LedgerError(
                f"replaying {self.file.parent} gives other weights than the run had (another machine, thread count or "
                f"library version?); {RERUN}"
            )
        editor.recall(tensors)
        return batches, measured

"""MEMIT_seq: MEMIT with a memory of the keys of earlier edits, a baseline of AlphaEdit (Fang et al., ICLR 2025)."""

from .config import MEMITSeqConfig
from .editor import MEMITSeq

__all__ = ["MEMITSeq", "MEMITSeqConfig"]

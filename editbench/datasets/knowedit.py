"""KnowEdit (Zhang et al., 2024, arXiv:2401.01286): wiki_recent, wiki_counterfact and ZsRE with portability.

Each question has lists of answers, any of which is right. Portability's "Subject_Aliasing" are probes of the kind
alias, "Reasoning" of reasoning, "Logical_Generalization" of portability; all groups of locality are locality.
"""

from __future__ import annotations

from editbench.datasets.base import Dataset, Layout, Settings
from editbench.datasets.requests import OPTIONAL, request_items

KNOWEDIT = Dataset(
    name="knowedit",
    settings=Settings,
    layouts=(
        Layout("KnowEdit", ("subject", "prompt", "target_new"), request_items, optional=OPTIONAL, unused=("cond",)),
    ),
)

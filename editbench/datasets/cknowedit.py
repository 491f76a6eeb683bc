"""CKnowEdit (Fang et al., 2025, arXiv:2409.05806): Chinese poems, proverbs, idioms, sounds, places and logic.

Records name no subject: methods that need one say *unsupported*, unless ``dataset.fields.subject`` names its field.
"""

from __future__ import annotations

from editbench.datasets.base import Dataset, Layout, Settings
from editbench.datasets.requests import OPTIONAL, request_items

CKNOWEDIT = Dataset(
    name="cknowedit",
    settings=Settings,
    layouts=(
        Layout(
            "CKnowEdit",
            ("prompt", "target_new"),
            request_items,
            optional=OPTIONAL,
            unused=("knowledge_type", "knowledge", "evaluation"),
        ),
    ),
)

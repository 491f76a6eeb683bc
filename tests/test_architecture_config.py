"""Settings of an unknown architecture are the paths of an architecture."""

from dataclasses import fields

from editbench.architecture_config import ArchitectureConfig
from editbench.model.architectures import PATHS


def test_its_fields_are_an_architectures_paths() -> None:
    assert tuple(f.name for f in fields(ArchitectureConfig)) == PATHS

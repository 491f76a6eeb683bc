"""Methods by name: their classes, their configs, their hparams files, and an editor from all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench import plugins
from editbench.checks import suggestion
from editbench.ledger import Ledger

if TYPE_CHECKING:
    from editbench.editor import Editor
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources

ORIGINS = ("tuned", "published", "by_hand")  # folders of ``methods/<name>/hparams/``, the preferred one first
DEFAULTS = "defaults"  # origin of settings where no file fits
TUNED = "tuned"


@dataclass(frozen=True)
class Tuning:
    """How a file of :data:`TUNED` hparams was found, from the JSON file beside it that ``editbench tune`` writes."""

    settings: dict[str, Any]  # that were found
    records: list[str]  # hashes of the records that were edited (editbench.datasets.disjoint)
    facts: dict[str, Any]  # for run.json: trials, edits, objective, seed, records_hash, …


def load_method(name: str) -> type[Editor[Any]]:
    """The editor class registered as ``name``; a ValueError for an unknown name, or a class that is no editor."""
    from editbench.editor import Editor

    cls = plugins.load(plugins.METHODS, name, "method")
    if not (isinstance(cls, type) and issubclass(cls, Editor)):
        point = plugins.entry_points(plugins.METHODS)[name]
        raise ValueError(f"method {name!r} ({point.value}) is not a subclass of editbench.Editor")
    return cls


def method_facts(name: str) -> dict[str, Any]:
    """What a method's class declares, as JSON values: title, kind, needs, max_batch (None: any), paper, class."""
    cls = load_method(name)
    declared: dict[str, Any] = {"title": cls.title, "kind": cls.kind, "needs": cls.capabilities.needs}
    declared |= {"max_batch": cls.capabilities.max_batch, "paper": cls.paper}
    return {"name": name, **declared, "class": f"{cls.__module__}:{cls.__name__}"}


def make_config(method: str, config_class: type, settings: Mapping[str, Any]) -> Any:
    """A method's config from plain values.

    A ValueError for an unknown setting, a value of the wrong type, or a number that is not finite, which no run could
    keep.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = [f.name for f in fields(config_class)]
    for key in settings:
        if key not in known:
            raise ValueError(f"method {method} has no setting {key!r}; {suggestion(key, known, 'setting')}")
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(config_class), dict(settings)))
    except OmegaConfBaseException as error:
        types = {f.name: str(f.type).replace("None", "null") for f in fields(config_class)}
        key = str(error.full_key or "").partition("[")[0].partition(".")[0]
        wrong = f"method.{key} is {settings[key]!r}; it must be {types[key]}" if key in settings else str(error)
        raise ValueError(f"method {method}: {wrong.splitlines()[0]}") from error
    for key in settings:
        if not _finite(value := getattr(config, key)):
            raise ValueError(f"method {method}: method.{key} is {value}; it must be finite")
    return config


def _finite(value: Any) -> bool:
    """Whether no number is infinite or NaN, in lists and mappings too."""
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def make_editor(
    method: str,
    lm: LanguageModel,
    *,
    ledger: Ledger | None = None,
    resources: Resources | None = None,
    hparams: str | None = None,
    **settings: Any,
) -> Editor[Any]:
    """An editor by its registered name, with a ledger of its own unless one is given.

    ``settings`` are fields of the method's config, on top of the hparams for a model of the name of ``lm``, as on the
    command line: the preferred ones, those of a set ("published"), or none ("defaults"). A ValueError names an unknown
    method or setting with a did-you-mean, and a layer that the model does not have.
    """
    from editbench.model.language_model import LanguageModel

    if not isinstance(lm, LanguageModel):
        raise TypeError(f'make_editor needs a loaded model, not {lm!r}: lm = editbench.load_model("pocket")')
    cls = load_method(method)
    known = {} if hparams == DEFAULTS else read_hparams(method, lm.name.lower(), hparams)
    config = make_config(method, cls.config_class, {**known, **settings})
    return cls(lm, ledger if ledger is not None else Ledger(lm), config, resources)


def hparams_folder(method: str) -> Path:
    """``hparams/`` in the package of a registered method; the folder may be missing."""
    module = plugins.entry_points(plugins.METHODS)[method].module
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"method {method!r}: its module {module} is not installed; install it or remove its package")
    return Path(spec.origin).parent / "hparams"


def hparams_names(method: str) -> list[str]:
    """Sets of hparams of a method: origins, and files directly in its folder ("all_neurons")."""
    folder = hparams_folder(method)
    origins = [origin for origin in ORIGINS if (folder / origin).is_dir()]
    return [*origins, *sorted(file.stem for file in folder.glob("*.yaml"))]


def read_hparams(method: str, model: str, wanted: str | None = None) -> dict[str, Any]:
    """The settings of a method for a model, of the set ``wanted`` (:func:`find_hparams`); a ValueError without it."""
    from omegaconf import OmegaConf

    origin, files = find_hparams(method, model, "", wanted)
    if wanted is not None and origin != wanted:
        known = ", ".join([DEFAULTS, *hparams_names(method)])
        raise ValueError(f"hparams={wanted}: none are known for {method} with {model}; known: {known}")
    OmegaConf.register_new_resolver("pocket_prompts", pocket_prompts, replace=True)
    found: Any = OmegaConf.to_container(OmegaConf.merge({}, *map(OmegaConf.load, files)), resolve=True)
    return dict(found)


def pocket_prompts(count: int) -> list[str]:
    """Prompts about subjects of the embedded world in no record: ``${pocket_prompts:100}`` in a file of hparams."""
    from editbench.pocket import dataset_files

    return list(dataset_files.generic_prompts(0, count))


def read_tuning(file: Path) -> Tuning:
    """The tuning of the hparams beside a JSON file; a ValueError if they were changed since."""
    import yaml

    plain = json.loads(file.read_text(encoding="utf-8"))
    if yaml.safe_load(file.with_suffix(".yaml").read_text(encoding="utf-8")) != plain["settings"]:
        raise ValueError(
            f"{file.with_suffix('.yaml')} is not what {file.name} says was found: it was changed by hand; "
            f"move it to by_hand/, and delete {file.name}"
        )
    return Tuning(plain.pop("settings"), plain.pop("records"), plain)


def find_hparams(method: str, model: str, dataset: str, wanted: str | None = None) -> tuple[str | None, list[Path]]:
    """Origin and YAML files of the settings for a model, later files on top of earlier ones.

    Without ``wanted`` these are the model's files of the first origin of :data:`ORIGINS` that has any. A set without a
    file for the model may hold for any model (``published/any.yaml``, ``all_neurons.yaml``), on top of the model's own;
    else another origin than ``wanted`` is returned. A method without hparams has the origin None.
    """
    folder = hparams_folder(method)

    def files(origin: str, name: str) -> list[Path]:
        return [f for end in ("", f"-{dataset}") if (f := folder / origin / f"{name}{end}.yaml").is_file()]

    none: tuple[str | None, list[Path]] = (DEFAULTS if folder.is_dir() else None, [])
    best = next(((origin, found) for origin in ORIGINS if (found := files(origin, model))), none)
    if wanted is None:
        return best
    if own := files(wanted, model):
        return wanted, own
    general = [*files(wanted, "any"), *files("", wanted)]
    return (wanted, [*best[1], *general]) if general else best

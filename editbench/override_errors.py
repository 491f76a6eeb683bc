"""Errors of Hydra and OmegaConf about a setting, in words for users."""

from __future__ import annotations

import re

_MERGING = re.compile(r"Error merging override [+~]*[^=\s]*=(?P<value>.*)")
_WANTED = {
    "converted to Integer": "a whole number",
    "converted to Float": "a number",
    "valid bool": "true or false",
    "not a ListConfig": "a list, as in [a,b]",
    "Cannot merge DictConfig with": "a mapping, as in {{name: value}}",
    "not a subclass of": "given by its own settings, as in {key}.NAME=VALUE",
}
"""By words of OmegaConf: what a setting must be; the ``key`` is the setting."""


def in_words(error: Exception) -> str:
    """One line on a setting that could not be used: its value and what it must be, or else the libraries' own words."""
    cause = error.__cause__ or error
    said, why = (str(one).partition("\n")[0].strip() for one in (error, cause))
    value, key = _MERGING.fullmatch(said), getattr(cause, "full_key", None)
    wanted = next((words for part, words in _WANTED.items() if part in why), None)
    if value and key and wanted:
        hint = ", or null for all" if value["value"].casefold() == "all" else ""
        return f"{key} is {value['value']}; it must be {wanted.format(key=key)}{hint}"
    return said if cause is error else ": ".join(filter(None, (said, why)))

"""``editbench edit "PROMPT" --subject … --target …``: one edit of a model, and questions to it, without a run."""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections.abc import Sequence

from editbench import compose
from editbench.conf_groups import choices
from editbench.console import quiet_libraries
from editbench.edited_run.asking import TOKENS, converse, lines_given
from editbench.edited_run.opened import EditedModel
from editbench.ledger import Ledger
from editbench.model.chat_template import format_of
from editbench.model.language_model import load_model
from editbench.model_places import SHIPPED_MODELS
from editbench.records import EditRequest, formatted
from editbench.registry import load_method
from editbench.resources import Resources
from editbench.threads import set_threads
from editbench.visible_text import visible

_log = logging.getLogger(__name__)


def quick_edit(request: EditRequest, overrides: Sequence[str] = ()) -> EditedModel:
    """A model with one edit in it; ``overrides`` are those of ``editbench run`` (method, model, their settings).

    ``request`` has the plain prompt. A ValueError if the method cannot make the edit.
    """
    config = compose.compose(overrides)
    around = config.dataset.settings.format_of_prompts(format_of(config.dataset, config.model))
    asked = formatted(request, around)
    lm = load_model(config.model)
    set_threads(lm.model, None, config.threads)
    resources = Resources.build(lm, config.model, config.cache, config.stream.seed, around)
    editor = load_method(config.method.name)(lm, Ledger(lm), config.method.settings, resources)
    editor.prepare([asked])
    result = editor.edit(asked)
    if result.skipped:
        raise ValueError(f"{config.method.name} cannot make this edit: {result.skipped[asked.id]}")
    editor.finish()
    if False in result.holds.values():
        _log.warning("the edit did not take: %s does not answer %s now", lm.name, visible(asked.target))
    return EditedModel(config, editor, around)


def main(argv: Sequence[str]) -> int:
    """Edit, show the answers to the prompt, and answer what standard input asks."""
    parser = argparse.ArgumentParser(prog="editbench edit", description="One edit of a model, then questions to it.")
    parser.add_argument("prompt", metavar="PROMPT", help='"The mother tongue of Danielle Darrieux is"')
    parser.add_argument("--target", required=True, metavar="TEXT", help="what the model is to answer")
    parser.add_argument("--subject", metavar="TEXT", help="whose fact it is, as it stands in the prompt")
    parser.add_argument("--method", default="rome", metavar="NAME", help="default rome")
    parser.add_argument("--model", default="pocket", metavar="NAME", help="name, folder or hub id (default pocket)")
    parser.add_argument("--json", action="store_true", help="one line of JSON an answer on standard output")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="further settings of editbench run")
    options = parser.parse_intermixed_args(argv)
    quiet_libraries()
    request = EditRequest("edit", options.prompt, options.subject, options.target)
    key = "model" if options.model in (*choices("model"), *SHIPPED_MODELS) else "model.path"
    model = quick_edit(request, [f"method={options.method}", f"{key}={options.model}", *options.settings])
    print(f"{model.config.method.name} has edited {model.lm.name}", file=sys.stderr)
    converse(model, itertools.chain([request.prompt], lines_given()), TOKENS, options.json)
    return 0

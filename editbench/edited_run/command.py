"""``editbench edits``, ``ask``, ``forget`` and ``export``: their arguments, and what they call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from editbench.console import add_json

if TYPE_CHECKING:
    import argparse


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands that do something with a finished run's edited model."""
    edits = commands.add_parser("edits", help="what a run edited, and whether it held then and holds now")
    edits.add_argument("run", metavar="RUN", help="run folder")
    add_json(edits, "one line of JSON an edit")
    edits.set_defaults(handler=_edits)

    ask = commands.add_parser("ask", help="answers of a run's edited and its unedited model, side by side")
    ask.add_argument("run", metavar="RUN", help="folder of a run, or one of forget or export --to ledger")
    ask.add_argument("prompts", nargs="*", metavar="PROMPT", help="default: lines of standard input")
    ask.add_argument("--tokens", type=int, default=20, metavar="N", help="of an answer, at most (default 20)")
    _add_model(ask)
    add_json(ask, "one line of JSON an answer")
    ask.set_defaults(handler=_ask)

    forget = commands.add_parser("forget", help="the edited model of a run without some of its edits")
    forget.add_argument("run", metavar="RUN", help="run folder; it stays as it is")
    forget.add_argument("ids", nargs="+", metavar="ID", help="ids of the edits, as editbench edits shows them")
    forget.add_argument("--out", required=True, metavar="FOLDER", help="new folder, for editbench ask and export")
    forget.set_defaults(handler=_forget)

    export = commands.add_parser("export", help="a run's edited model as a checkpoint, an adapter, or edits")
    export.add_argument("run", metavar="RUN", help="folder of a run, or one of forget")
    export.add_argument("--to", required=True, choices=("checkpoint", "lora", "ledger"), help="form")
    export.add_argument("--out", required=True, metavar="FOLDER", help="new folder")
    export.add_argument("--rank", type=int, metavar="N", help="of the adapter, at most (default: all of the change)")
    _add_model(export)
    export.set_defaults(handler=_export)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="PATH", help="where the base model lies, if not where the run had it")
    parser.add_argument("--device", metavar="DEVICE", help="where it runs (default: as the run did)")


def _edits(options: argparse.Namespace) -> int:
    from editbench.edited_run import listing

    return listing.main(options.run, options.json)


def _ask(options: argparse.Namespace) -> int:
    from editbench.edited_run import asking

    return asking.main(options.run, options.prompts, options.tokens, options.model, options.device, options.json)


def _forget(options: argparse.Namespace) -> int:
    from editbench.edited_run import forgetting

    return forgetting.main(options.run, options.ids, options.out)


def _export(options: argparse.Namespace) -> int:
    from editbench.edited_run import exports

    return exports.main(options.run, options.to, options.out, options.model, options.device, options.rank)

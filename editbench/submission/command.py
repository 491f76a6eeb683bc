"""``editbench verify`` and ``editbench submit``: their arguments, and what they call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands about claims: of one's own, and of others."""
    check = commands.add_parser("verify", help="whether a run's claim holds: 0 it does, 1 it does not, 2 cannot say")
    check.add_argument("run", metavar="RUN", help="run folder; nothing of it is run, and no path in it is followed")
    check.add_argument(
        "--level", type=int, choices=(1, 2, 3), default=1, help="1 seal (default), 2 re-score, 3 re-edit"
    )
    check.add_argument("--sample", type=int, default=64, metavar="N", help="rows to score again (default 64)")
    check.add_argument("--nonce", metavar="TEXT", help="draws the sample, with the run's root (default: random)")
    check.add_argument("--path", action="append", default=[], metavar="SETTING=PATH", help="your own model.path, …")
    check.set_defaults(handler=_verify)

    packing = commands.add_parser("submit", help="pack finished runs of one method so that anybody can verify them")
    packing.add_argument("runs", nargs="+", metavar="RUN", help="run folders that differ in their seed alone")
    packing.add_argument("--out", required=True, metavar="FOLDER", help="new folder, in that of all submissions")
    packing.add_argument("--against", metavar="ROOT", help="root of a run than which this is a lower result")
    packing.set_defaults(handler=_submit)


def _verify(options: argparse.Namespace) -> int:
    from editbench.submission import verify

    return verify.main(options.run, options.level, options.sample, options.nonce, options.path)


def _submit(options: argparse.Namespace) -> int:
    from editbench.submission import pack

    return pack.main(options.runs, options.out, options.against)

"""``editbench leaderboard``, ``ranks`` and ``clean``: a table of all runs, their orders, what is not worth keeping."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from editbench.files import ResultsError
from editbench.results.schema import STAGES
from editbench.visible_text import visible

if TYPE_CHECKING:
    import argparse

    from editbench.results.schema import Row

BOARD, FINAL = "leaderboard.csv", "final"
OTHER_FORMATS = (".tex", ".md", ".html", ".json", ".jsonl")


def add_leaderboard_options(board: argparse.ArgumentParser) -> None:
    """Options of ``editbench leaderboard`` beside the runs."""
    board.add_argument("--from", dest="submissions", metavar="FOLDER", help="a folder of submissions, and no runs")
    board.add_argument("--by", default="", metavar="COLUMNS", help="one row for all seeds; columns that come first")
    board.add_argument(
        "--sort", default="", metavar="COLUMNS", help="best or smallest first; --sort=-edits: the other way"
    )
    board.add_argument("--columns", default="", metavar="COLUMNS", help="these columns of the CSV, and no others")
    board.add_argument("--stage", choices=STAGES, default=FINAL, help="scores of which stage")
    board.add_argument("--wide", action="store_true", help="methods × datasets: the score, or the figures of --columns")
    board.add_argument("--out", metavar="FILE", help="CSV file of what is shown (leaderboard.csv has all runs)")
    board.add_argument("--format", choices=["table", "markdown", "latex"], default="table", help="what is printed")
    board.add_argument("--significance", action="store_true", help="mark what is worse than the best, paired by record")
    board.add_argument("--reference", metavar="CSV", help="compare with reference figures")


def show_leaderboard(options: argparse.Namespace, roots: Sequence[Path]) -> int:
    """Write all runs of the folders to `leaderboard.csv`, and show those that were asked for."""
    from editbench.results import compare, leaderboard, selection
    from editbench.results.csv_files import write_csv
    from editbench.results.table_layout import View
    from editbench.results.tables import show, show_comparison

    if options.out and Path(options.out).suffix.lower() in OTHER_FORMATS:
        raise ValueError(f"--out writes CSV, and {options.out} is none; for the printed table write > {options.out}")
    _refuse_other_stages(options)
    every = leaderboard.collect_folders(*roots)
    kept = f"{len(every)} runs: {roots[0] / BOARD}"
    try:
        write_csv(list(every.values()), roots[0] / BOARD)
    except ResultsError as error:  # another's results, perhaps, which may be looked at
        kept = ""
        print(f"note: {error}", file=sys.stderr)
    placed, past = _chosen(every, options)
    by, columns = _names(options.by), _names(options.columns)
    rows = [row for row, _ in placed]
    if by:
        rows = leaderboard.group(rows, by)
    if options.sort:
        rows = selection.ordered(rows, _names(options.sort))
    selection.check_columns(columns, rows)
    marks = compare.marks(rows, every) if options.significance else None
    if options.out:
        write_csv(rows, options.out, columns or None)
    if options.json:
        folders = {id(row): str(folder.resolve()) for row, folder in placed}
        for row in rows:
            print(leaderboard.row_as_json(row, folder=folders.get(id(row))))
    else:
        view = View(stage=options.stage, ordered=bool(options.sort))
        if options.wide:
            view = view._replace(figures=tuple(columns or ["score"]))
        else:
            view = view._replace(columns=tuple(columns))
        show(rows, style=options.format, by=by, marks=marks, view=view, wide=options.wide)
    alone = options.json or options.format != "table"  # what scripts read
    with redirect_stdout(sys.stderr if alone else sys.stdout):
        if past:
            finished = "later ones with their settings did"
            print(f"{len(past)} runs that did not finish are not shown: {finished}; editbench clean removes them")
        if options.out:
            print(f"{len(rows)} {'rows' if by else 'runs'}: {options.out}")
        if kept:
            print(kept)
        if options.reference:
            show_comparison(rows, Path(options.reference))
    return 0


def _refuse_other_stages(options: argparse.Namespace) -> None:
    """Refuse what is about scores after the last edit beside the scores of another stage."""
    for what, given in (("--significance tests", options.significance), ("--reference compares", options.reference)):
        if given and options.stage != FINAL:
            others = f"--stage {options.stage} shows others; leave one of the two out"
            raise ValueError(f"{what} scores after the last edit, and {others}")


def add_ranks_options(ranks: argparse.ArgumentParser) -> None:
    """Options of ``editbench ranks`` beside the runs."""
    ranks.add_argument(
        "--over", default="seed", metavar="COLUMN", help='what is varied: a column, or "metric" (default: seed)'
    )
    ranks.add_argument(
        "--measures",
        default="score",
        metavar="NAMES",
        help="score, reliability, rewrite.exact_match, … (default: score)",
    )


def show_ranks(options: argparse.Namespace, roots: Sequence[Path]) -> int:
    """Show how far each two orders of methods agree."""
    from editbench.json_lines import encode
    from editbench.results import leaderboard
    from editbench.results.rank_stability import agreements
    from editbench.results.tables import show_agreements

    runs = leaderboard.collect_folders(*roots, conditions=options.where)
    found = agreements(runs, options.over, _names(options.measures))
    if options.json:
        for one in found:
            print(encode(vars(one)))
    else:
        show_agreements(found)
    return 0


def _chosen(every: Mapping[Path, Row], options: argparse.Namespace) -> tuple[list[tuple[Row, Path]], list[Row]]:
    """The stage's rows that meet the conditions, with their runs' folders; and apart the runs a later one replaces."""
    from editbench.results import selection

    placed = list(_at_stage(every, options.stage))
    whole = [every[folder] | row for row, folder in placed]  # figures of the end may be asked for too
    meets = set(map(id, selection.where(whole, options.where)))
    asked = [one for one, row in zip(placed, whole, strict=True) if id(row) in meets]
    _, past = selection.current([every[folder] for folder in dict.fromkeys(folder for _, folder in asked)])
    gone = set(map(id, past))
    return [(row, folder) for row, folder in asked if id(every[folder]) not in gone], past


def _at_stage(every: Mapping[Path, Row], stage: str) -> Iterator[tuple[Row, Path]]:
    """The rows of all runs at a stage, each with its run's folder."""
    from editbench.results import leaderboard

    for folder, row in every.items():
        for one in [row] if stage == FINAL else leaderboard.read_stages(folder, stage):
            yield one, folder


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def clean(roots: Sequence[Path], conditions: Sequence[str], remove: bool) -> int:
    """List failed and interrupted runs, or those that meet the conditions, and delete them if ``remove``.

    A run that was gone on with since it was read stays.
    """
    from editbench.results import leaderboard, selection
    from editbench.results.csv_files import write_csv
    from editbench.results.run_folder import RunFolder

    every = leaderboard.collect_folders(*roots)
    rows = selection.where(list(every.values()), conditions)
    chosen = set(map(id, rows if conditions else [row for row in rows if row["status"] in selection.UNFINISHED]))
    found = {folder: row for folder, row in every.items() if id(row) in chosen and row["status"] != "running"}
    left = 0
    for folder, row in found.items():
        if remove and not RunFolder.remove(folder, partial(_unchanged, folder, row)):
            left += 1
            print(visible(f"left: {folder}: its files have changed since they were read"))
            continue
        reason = " ".join(str(row["reason"] or "").split())
        print(visible(f"{'removed' if remove else row['status']}: {folder}{f': {reason}' if reason else ''}"))
    if remove:
        write_csv(list(leaderboard.collect_folders(*roots).values()), roots[0] / BOARD)
    print(f"{len(found) - left} of {len(every)} runs" + ("" if remove or not found else "; --remove deletes them"))
    return 0


def _unchanged(folder: Path, row: Row) -> bool:
    """Whether a run has the files of which the row was read."""
    from editbench.results.leaderboard import read_row

    return bool(read_row(folder)["content_hash"] == row["content_hash"])

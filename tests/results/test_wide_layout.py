"""Methods × data sets: a line for each method, a column for each data set."""

from editbench.results.table_layout import NO_VALUE, Layout, TableCell
from editbench.results.wide_layout import widened


def content(*figures):
    rows = [("rome", "zsre", 0.1), ("memit", "zsre", 0.2), ("rome", "counterfact", 0.3), ("rome", "zsre", 0.4)]
    lines = [
        [
            TableCell(method),
            TableCell(data),
            *(TableCell(f"{value}", bold=value == 0.2) for _ in figures),
            TableCell(""),
        ]
        for method, data, value in rows
    ]
    return Layout(("method", "dataset", *figures, "note"), figures, [lines], ["a sentence"])


def test_one_figure_has_the_data_sets_as_titles_and_keeps_its_look():
    wide = widened(content("score"))
    assert wide.titles == ("method", "zsre", "counterfact", "note") and wide.figures == ("zsre", "counterfact")
    texts = [[cell.text for cell in line] for line in wide.lines]
    assert texts == [["rome", "0.1", "0.3", ""], ["memit", "0.2", NO_VALUE, ""], ["rome", "0.4", NO_VALUE, ""]]
    assert wide.lines[1][1].bold and wide.legend == ["a sentence"]


def test_several_figures_are_named_too():
    assert widened(content("score", "s/edit")).titles[1:3] == ("zsre score", "zsre s/edit")

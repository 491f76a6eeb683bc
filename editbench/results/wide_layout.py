"""The leaderboard as methods × data sets: one line a method, one column a data set and figure."""

from __future__ import annotations

from editbench.results.table_layout import NO_VALUE, Layout, TableCell


def widened(content: Layout, label: str = "dataset") -> Layout:
    """The layout with a column for each figure and value of ``label``; lines that agree in the other labels are one."""
    figures = [i for i, title in enumerate(content.titles) if title in content.figures]
    if label not in content.titles:
        return content
    at = content.titles.index(label)
    labels = [i for i in range(len(content.titles) - 1) if i not in figures and i != at]
    values = list(dict.fromkeys(line[at].text for line in content.lines))
    titles = [value if len(figures) == 1 else f"{value} {content.titles[i]}" for value in values for i in figures]
    lines: list[tuple[tuple[str, ...], dict[str, list[TableCell]]]] = []
    for line in content.lines:
        key, value = tuple(line[i].text for i in labels), line[at].text
        place = next((cells for known, cells in lines if known == key and value not in cells), None)
        if place is None:
            lines.append((key, place := {}))
        place[value] = [line[i] for i in figures]
    empty = [TableCell(NO_VALUE)] * len(figures)
    made = [
        [*map(TableCell, key), *(cell for value in values for cell in cells.get(value, empty)), TableCell("")]
        for key, cells in lines
    ]
    names = [content.titles[i] for i in labels]
    return Layout((*names, *titles, "note"), tuple(titles), [made], [*content.notes, *content.legend])

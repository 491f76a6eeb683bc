"""The chart shows every method's points where they are, with colours or without."""

import re

from editbench.results.terminal_chart import HEIGHT, WIDTH, chart

POINTS = [
    {"method": method, "edits": edits, "score": score}
    for method, scores in {"scen": (1.0, 1.0, 1.0), "rome": (1.0, 0.5, 0.0)}.items()
    for edits, score in zip((1, 10, 100), scores, strict=True)
]


def test_lines_stand_where_the_scores_are():
    lines = chart(POINTS, "a title", width=80, colours=False).splitlines()
    assert len(lines) == HEIGHT and max(map(len, lines)) <= 80
    assert "a title" in lines[0] and "edits" in lines[-1]
    assert re.findall(r"\d+", lines[-2]) == ["1", "10", "100"]
    scale = {line[:4]: line for line in lines if "┤" in line}
    assert list(scale) == ["1.00", "0.75", "0.50", "0.25", "0.00"]
    assert scale["1.00"].count("●") == 2  # rome stands before it after one edit
    assert scale["0.50"].count("■") == 1 and scale["0.00"].count("■") == 1
    assert any("● scen" in line for line in lines) and any("■ rome" in line for line in lines)
    ticks, rome = lines[-2], scale["0.50"].index("■")
    assert abs(rome - ticks.index("10 ")) <= 1


def test_colours_are_asked_for_and_width_is_bounded():
    assert "\x1b[" not in chart(POINTS, "t", colours=False)
    drawn = chart(POINTS, "t", width=500)
    assert "\x1b[" in drawn
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in drawn.splitlines()) <= WIDTH


def test_a_point_without_a_score_is_left_out_and_one_alone_is_drawn():
    drawn = chart([*POINTS[:1], {"method": "nse", "edits": 1, "score": None}], "t", colours=False)
    assert "● scen" in drawn and "nse" not in drawn

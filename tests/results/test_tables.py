"""The leaderboard in LaTeX: every text is set as it is, and the table is one that booktabs understands."""

from __future__ import annotations

import re

import pytest

from editbench.results.leaderboard import collect
from editbench.results.table_layout import Marks
from editbench.results.tables import escape, to_latex
from tests.results.runs import write_run


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50 % & $1_000 #3 {x}", r"50 \% \& \$1\_000 \#3 \{x\}"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"),
        ("x<y>z|w", r"x\textless{}y\textgreater{}z\textbar{}w"),
        ("some-model --- 1", "some-model {-}{-}- 1"),
        ("[5pt]", "{[}5pt{]}"),
        ("?` !`", "?{`} !{`}"),
        ("0.5 ± 0.1 — †…", r"0.5 $\pm$ 0.1 --- \textdagger{}\dots{}"),
        ("a\nb\tc\x00d\u2028e", "a b c d e"),
        ("Größe 東京", "Größe 東京"),
    ],
)
def test_texts_are_set_as_they_are(text, escaped):
    assert escape(text) == escaped


def test_the_table_is_a_tabular_of_booktabs(tmp_path):
    write_run(tmp_path, "a", method="rome_v2", rate=0.3, edits=20)
    write_run(tmp_path, "b", method="memit", rate=0.9, edits=20)
    write_run(tmp_path, "c", method="50%", edits=4)
    write_run(tmp_path, "d", method="\\\\evil & \n more", edits=4, status="failed")
    rows = collect(tmp_path)
    marked = Marks(frozenset({(rows[0]["content_hash"], "score")}), ("a_b beside c: not tested",))
    text = to_latex(rows, marks=marked)
    lines = text.splitlines()
    assert lines[:3] == [r"% needs \usepackage{booktabs}", r"\begin{tabular}{llllrrrrrrr}", r"\toprule"]
    body = [line for line in lines if line.endswith(r"\\")]
    assert len(body) == 4 and {len(re.findall(r"(?<!\\)&", line)) for line in body} == {10}
    assert text.count(r"\midrule") == 2 and text.count(r"\bottomrule") == text.count(r"\end{tabular}") == 1
    assert r"rome\_v2 & tiny & counterfact & 20" in text and r"50\% &" in text
    (memit,) = [line for line in body if line.startswith("memit")]
    (rome,) = [line for line in body if line.startswith("rome")]
    assert re.search(r"\\textbf\{0\.\d{3} \{\[\}\.\d{3}, \.\d{3}\{\]\}\}", memit)
    assert rome.count(r"\textsuperscript{\textdagger}") == 1 and r"\textbf{0" not in rome
    assert "evil" not in text  # a run that failed has no line in a paper
    comments = lines[lines.index(r"\end{tabular}") + 1 :]
    assert comments and all(line.startswith("% ") for line in comments)
    assert "% d: failed: CUDA out of memory" in comments and r"% a\_b beside c: not tested" in comments

"""Standard output for JSON alone, and errors in one line."""

import subprocess
import sys

from editbench.console import report_failure

SCRIPT = """
import subprocess, sys
from editbench.console import json_lines
print("before")
with json_lines() as lines:
    print("{}", file=lines)
    print("a table")
    subprocess.run([sys.executable, "-c", "print('another process')"], check=True)
print("after")
"""


def test_all_but_the_json_goes_to_standard_error():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["before", "{}", "after"]
    assert sorted(done.stderr.splitlines()) == ["a table", "another process"]


def test_a_mistake_of_the_user_has_one_line_and_one_of_ours_its_traceback(capsys):
    for error, lines in ((ValueError("no such layer"), 1), (TypeError("on purpose"), 2)):
        report_failure(error)
        text = capsys.readouterr().err
        assert text.endswith(f"error: {error}\n") and len(text.splitlines()) == lines

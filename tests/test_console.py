"""Standard output for JSON alone, and errors in one line."""

import os
import signal
import subprocess
import sys

from editbench.console import report_failure, stoppable

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


def test_a_command_that_is_stopped_or_fails_says_so_in_a_line(capsys):
    def stop():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 5)  # until it arrives

    def fail():
        raise ValueError("no such layer")

    own = signal.getsignal(signal.SIGTERM)
    try:
        assert [stoppable(work, "stopped") for work in (stop, fail, lambda: 0)] == [130, 1, 0]
    finally:
        signal.signal(signal.SIGTERM, own)
    assert capsys.readouterr().err == "\nstopped\nerror: no such layer\n"

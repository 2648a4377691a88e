"""A disk that is full for real: a small tmpfs."""

import subprocess
import sys

from lightex.core.logged import read_logged
from lightex.core.root import Root

PROGRAM = """
import lightex, os, sys
run = lightex.start_run("demo", root=sys.argv[1], on_full=sys.argv[2])
with open(sys.argv[1] + "/ballast", "wb") as ballast:
    with run:
        for number in range(3000):
            run.log({"x": number}, step=number)
            if number == 100:
                try:
                    while True:
                        os.write(ballast.fileno(), b"0" * 4096)
                except OSError:
                    pass
            if number == 2900:
                os.unlink(sys.argv[1] + "/ballast")
                os.ftruncate(ballast.fileno(), 0)
"""


def test_training_goes_on_and_what_waited_is_written_when_there_is_room(small_disk):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(small_disk), "wait"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr.count("No space left on device") == 1
    (run,) = Root(small_disk).runs()
    logged = read_logged(run).metrics["x"]
    assert (logged.last, logged.min) == (2999, 0)
    assert run.records_file().read_bytes().count(b'"x"') == 3000


def test_or_it_stops_with_one_clear_error_and_what_was_written_is_readable(small_disk):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(small_disk), "raise"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    (run,) = Root(small_disk).runs()
    assert read_logged(run).metrics["x"].last >= 100

"""Thirty of the operations that `fail_operations.py` lets fail, drawn with a seed."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("fail_operations.py")


def test_a_run_its_report_and_its_mirror_survive_any_operation_that_fails():
    command = [sys.executable, str(SCRIPT), "--draw", "30", "--seed", "16"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 operations failed, 0 of them badly" in done.stdout

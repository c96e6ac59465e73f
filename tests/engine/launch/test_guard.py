"""What a command finds in a runs folder that another one, killed while it wrote, has left there."""

import os

from sca_bench.engine.launch.guard import exclusive

GONE = 99_999_999_999_999_999_999
"""The number of no process."""


def test_what_killed_commands_were_writing_is_deleted_and_nothing_else(tmp_path):
    runs, outside = tmp_path / "runs", tmp_path / "outside"
    folders = [runs, runs / "suites", runs / "sweeps", runs / "stages" / "1234"]
    for folder in (*folders, outside):
        folder.mkdir(parents=True)
        (folder / f".a.json.{GONE}.tmp").write_text("{")
        (folder / f".a.json.{os.getppid()}.tmp").write_text("{")  # of somebody who is at work
        (folder / "a.json").write_text("{}")
    (runs / "stages" / "5678").symlink_to(outside)
    with exclusive(runs):
        for folder in folders:
            names = {path.name for path in folder.iterdir() if path.is_file()} - {".lock"}
            assert names == {"a.json", f".a.json.{os.getppid()}.tmp"}
    assert len(list(outside.iterdir())) == 3

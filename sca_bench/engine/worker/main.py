"""Entry point of a worker process, and the tasks it may be given."""

from __future__ import annotations

import os
import traceback
from importlib import import_module
from pathlib import Path

import torch

from sca_bench.engine.device import computing
from sca_bench.engine.job import GroupJob, Outcome
from sca_bench.engine.process import ToldToStop, die_with_parent, listen, redirect
from sca_bench.errors import InputError, at


def main(job_path: str, outcome_path: str, log_path: str, function: str) -> None:
    """Do one task; everything that is printed meanwhile goes to the log.

    Args:
        job_path: A saved `GroupJob`.
        outcome_path: Where to write the `Outcome`.
        log_path: Text log of this process.
        function: `module:function` of the task, called with job, outcome and the outcome's path.
    """
    os.environ["MPLBACKEND"] = "agg"  # mmengine imports pyplot, which would load a notebook's own
    outcome, path = Outcome(), Path(outcome_path)
    job, has_log = GroupJob.load(Path(job_path)), False
    try:
        redirect(log_path)
        has_log = True
        die_with_parent()
        listen()
        with at(job.where), computing(job.cells[0].settings, torch.device(job.device)):
            torch.set_num_threads(job.threads)
            torch.manual_seed(job.order_seed)
            module, _, attribute = function.partition(":")
            getattr(import_module(module), attribute)(job, outcome, path)
    except ToldToStop:
        outcome.failed = dict.fromkeys((cell.key for cell in job.cells), "told to stop")
    except InputError as error:
        outcome.input_error = [error.where, error.key, error.problem, error.fix]
    except Exception as error:
        if has_log:  # else the command's own output is there
            traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        outcome.failed = {cell.key: reason for cell in job.cells}
    outcome.save(path)


def prepare_group(job: GroupJob, outcome: Outcome, path: Path) -> None:
    """Check the inputs of a group, and keep the frozen features that its cells share."""
    from sca_bench.engine.worker.prepare import prepare

    prepare(job, outcome, path.with_suffix(".progress"))


def run_group(job: GroupJob, outcome: Outcome, path: Path) -> None:
    """Run a group to its end; all it has to say stands in the outcome and in the runs' files."""
    from sca_bench.engine.worker.group_run import GroupRun

    GroupRun(job, outcome).run()

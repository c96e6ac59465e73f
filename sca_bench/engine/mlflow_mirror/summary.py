"""The summary of a suite: a run with its verdicts, and its report as files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sca_bench.engine.mlflow_mirror.experiment import Experiment, changed_note
from sca_bench.engine.mlflow_mirror.layout import (
    SUMMARY_RUN,
    SUMMARY_TAG,
    VERDICT_TAG,
    claim_values,
    suite_tags,
    summary_note,
)
from sca_bench.study.runs.findings import SuiteFindings
from sca_bench.study.runs.record import SuiteManifest

_NO_REPORT = "no report"


class Summary:
    """The one summary of a suite.

    Its tag says which report it holds: by a digest, `no report`, or `incomplete` meanwhile.

    Args:
        manifest: The suite.
        experiment: Where it is.
    """

    def __init__(self, manifest: SuiteManifest, experiment: Experiment) -> None:
        self._manifest, self._at = manifest, experiment

    def update(self, found: SuiteFindings, *, make: bool) -> None:
        """Write what was found of the suite into its summary.

        Args:
            found: What was found.
            make: Make one where there is none. One without a report is made anew where runs have
                begun since, so that it comes first in a list by time.
        """
        known = self._known()
        run = known[-1] if known else None
        if make and (run is None or self._is_overtaken(run)):
            run = self._create(found, _NO_REPORT)
            self._finish(run)
            for old in known:
                self._at.delete(str(old.info.run_id))
        elif run is not None:
            self._show(run, found)
            if make and str(run.info.status) == "RUNNING":
                self._finish(run)

    def replace(self, files: Sequence[Path], stamp: str, found: SuiteFindings | None) -> None:
        """Have the summary hold a report; one that does is left alone.

        Args:
            files: The report's.
            stamp: Their digest.
            found: What the report says.
        """
        known = self._known()
        if [run.data.tags[SUMMARY_TAG] for run in known] == [stamp]:
            if found is not None:
                self._show(known[0], found)
            return
        run = self._create(found, "incomplete")
        run_id = str(run.info.run_id)
        try:
            self._at.upload(run, files)
            self._at.log(run_id, tags={SUMMARY_TAG: stamp})
        except BaseException:
            with contextlib.suppress(Exception):  # the reason is the first fault
                self._at.client.set_terminated(run_id, status="FAILED")
            raise
        self._finish(run)
        for old in known:
            self._at.delete(str(old.info.run_id))

    def _known(self) -> list[Any]:
        """Return the summaries that there are, the oldest first."""
        return [run for run in self._at.runs().values() if SUMMARY_TAG in run.data.tags]

    def _is_overtaken(self, run: Any) -> bool:
        if run.data.tags[SUMMARY_TAG] != _NO_REPORT:
            return False
        latest = max(other.info.start_time or 0 for other in self._at.runs().values())
        return bool(latest > (run.info.start_time or 0))

    def _create(self, found: SuiteFindings | None, stamp: str) -> Any:
        tags = {**suite_tags(self._manifest, SUMMARY_RUN), SUMMARY_TAG: stamp}
        run = self._at.create("summary", tags, None)
        self._show(run, found)
        return run

    def _finish(self, run: Any) -> None:
        self._at.client.set_terminated(str(run.info.run_id), status="FINISHED")

    def _show(self, run: Any, found: SuiteFindings | None) -> None:
        known, now = run.data, time.time()
        values = {} if found is None else claim_values(found)
        tags = changed_note(known.tags, summary_note(self._manifest, found))
        if found is not None:
            said = (f"{claim.id}: {claim.verdict}" for claim in found.claims if claim.verdict)
            verdicts = "; ".join(said)
            tags[VERDICT_TAG] = verdicts or "no claim"
        self._at.log(
            str(run.info.run_id),
            [(k, v, 0, now) for k, v in values.items() if known.metrics.get(k) != v],
            tags={key: value for key, value in tags.items() if known.tags.get(key) != value},
        )

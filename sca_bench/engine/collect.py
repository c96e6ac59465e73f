"""What the evaluation loops do with captions: validation sums up, testing writes to disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from sca_bench.engine.job import LEARNT_FROM
from sca_bench.errors import CellError
from sca_bench.files import publish
from sca_bench.study.store import PREDICTIONS
from sca_bench.types import Prediction, Region

PARTIAL = "predictions.partial.jsonl"


def prediction_row(region: Region, prediction: Prediction) -> dict[str, Any]:
    """Return one line of `predictions.jsonl`: the prediction beside what it is compared with."""
    row: dict[str, Any] = {
        "region_id": region.region_id,
        "image_id": region.image_id,
        "caption": prediction.caption,
        "references": list(region.references),
        "box_xyxy": [round(v, 3) for v in region.box_xyxy],
        "log_prob": round(prediction.log_prob, 6),
        "predicted_ious": [round(v, 6) for v in prediction.predicted_ious],
        "seconds": round(prediction.seconds, 6),
    }
    if region.slots:
        row["slots"] = dict(region.slots)
    return row


class _OverRegions(BaseMetric):  # type: ignore[misc]
    """A metric whose rows are regions; mmengine would cut the rows to the number of images."""

    def __init__(self) -> None:
        super().__init__(prefix="regions")

    def evaluate(self, size: int) -> dict[str, Any]:
        """Return the metrics over all rows collected, and forget the rows."""
        metrics: dict[str, Any] = self.compute_metrics(self.results)
        self.results.clear()
        return metrics


class ValidationSummary(_OverRegions):
    """Loss and exact match of each member on the validation split, for the log."""

    def __init__(self, regions: Sequence[Region]) -> None:
        super().__init__()
        self._references = {r.region_id: {c.lower() for c in r.references} for r in regions}

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep what the summary needs of each prediction."""
        for sample in data_samples:
            found: Prediction = sample["prediction"]
            hit = found.caption.lower() in self._references[found.region_id]
            self.results.append((sample["member"], float(hit), sample["loss"]))

    def compute_metrics(self, results: list[tuple[str, float, float | None]]) -> dict[str, Any]:
        """Return `<member>/exact_match` and `<member>/loss`, means over regions."""
        summary: dict[str, Any] = {}
        for key in {member for member, _, _ in results}:
            hits = [hit for member, hit, _ in results if member == key]
            losses = [x for member, _, x in results if member == key and x is not None]
            summary[f"{key}/exact_match"] = sum(hits) / len(hits)
            if losses:
                summary[f"{key}/loss"] = sum(losses) / len(losses)
        return summary


class WritePredictions(_OverRegions):
    """Append every prediction to its run's file; at the end, check the ids and give it its name.

    Args:
        regions: The regions to be captioned.
        folders: Member key -> folder of its run.
        name: Name of the finished file.
        learnt_from: Region id -> the captions it was trained on, where those were not its own.
    """

    def __init__(
        self,
        regions: Sequence[Region],
        folders: dict[str, Path],
        name: str = PREDICTIONS,
        learnt_from: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self._regions = {region.region_id: region for region in regions}
        self._folders, self._name = folders, name
        self._learnt_from = learnt_from or {}
        self._handles: dict[str, Any] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Write the rows of one batch."""
        for sample in data_samples:
            key = sample["member"]
            if key not in self._handles:
                path = self._folders[key] / PARTIAL
                self._handles[key] = path.open("w", encoding="utf-8")
            found: Prediction = sample["prediction"]
            row = prediction_row(self._regions[found.region_id], found)
            if found.region_id in self._learnt_from:
                row[LEARNT_FROM] = list(self._learnt_from[found.region_id])
            self._handles[key].write(json.dumps(row, ensure_ascii=False) + "\n")
            self.results.append((key, found.region_id))
        for handle in self._handles.values():
            handle.flush()

    def compute_metrics(self, results: list[tuple[str, str]]) -> dict[str, Any]:
        """Name the files whose members captioned exactly the expected regions; return the counts.

        A file that misses a region or has one twice keeps its partial name; `check_complete`
        makes that an error for a member that did not fail before.
        """
        counts: dict[str, Any] = {}
        for key, handle in self._handles.items():
            handle.close()
            found = [region_id for member, region_id in results if member == key]
            if len(found) == len(self._regions) and set(found) == set(self._regions):
                publish(self._folders[key] / PARTIAL, self._folders[key] / self._name)
            counts[f"{key}/num_captions"] = len(found)
        return counts


def check_complete(folder: Path, name: str = PREDICTIONS) -> None:
    """Raise a `CellError` if a run that did not fail has no complete predictions file."""
    if not (folder / name).exists():
        raise CellError(f"{folder / PARTIAL}: a region is missing or was captioned twice")

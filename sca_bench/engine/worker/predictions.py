"""What the evaluation loops do with captions: validation sums up, testing writes to disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from sca_bench.engine.worker.cell_group import MemberPrediction
from sca_bench.errors import CellError
from sca_bench.files import delete, open_to_write, publish
from sca_bench.metrics.coco_caption.ptb_tokenizer import canonical
from sca_bench.metrics.rows import PredictionRow, prediction_line
from sca_bench.study.runs.store import PREDICTIONS
from sca_bench.types import Prediction, Region

PARTIAL = "predictions.partial.jsonl"


def prediction_row(
    region: Region, prediction: Prediction, learnt_from: Sequence[str] = ()
) -> PredictionRow:
    """Return what a run writes of a region: the prediction beside what it is compared with."""
    return PredictionRow(
        region.region_id,
        region.image_id,
        prediction.caption,
        region.references,
        region.slots,
        region.box_xyxy,
        tuple(learnt_from),
        log_prob=prediction.log_prob,
        predicted_ious=prediction.predicted_ious,
        seconds=prediction.seconds,
    )


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
        self._references = {r.region_id: set(map(canonical, r.references)) for r in regions}

    def process(self, data_batch: Any, data_samples: Sequence[MemberPrediction]) -> None:
        """Keep what the summary needs of each prediction."""
        for member, prediction, loss in data_samples:
            hit = canonical(prediction.caption) in self._references[prediction.region_id]
            self.results.append((member, float(hit), loss))

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
        alone: Takes a member's key; what goes wrong inside costs that member alone.
    """

    def __init__(
        self,
        regions: Sequence[Region],
        folders: dict[str, Path],
        name: str = PREDICTIONS,
        learnt_from: Mapping[str, Sequence[str]] | None = None,
        alone: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        super().__init__()
        self._regions = {region.region_id: region for region in regions}
        self._folders, self._name = folders, name
        self._learnt_from, self._alone = learnt_from or {}, alone
        self._handles: dict[str, Any] = {}

    def process(self, data_batch: Any, data_samples: Sequence[MemberPrediction]) -> None:
        """Write the rows of one batch."""
        for key in dict.fromkeys(sample.member for sample in data_samples):
            with self._alone(key):
                if key not in self._handles:
                    path = self._folders[key] / PARTIAL
                    if path.exists():
                        delete(path)  # a copy of the runs folder may share it by a hard link
                    self._handles[key] = open_to_write(path)
                for member, prediction, _ in data_samples:
                    if member == key:
                        self._write(key, prediction)
                self._handles[key].flush()

    def _write(self, key: str, prediction: Prediction) -> None:
        region_id = prediction.region_id
        learnt_from = self._learnt_from.get(region_id, ())
        row = prediction_row(self._regions[region_id], prediction, learnt_from)
        self._handles[key].write(prediction_line(row).encode())
        self.results.append((key, region_id))

    def compute_metrics(self, results: list[tuple[str, str]]) -> dict[str, Any]:
        """Name the files whose members captioned exactly the expected regions; return the counts.

        A file that misses a region or has one twice keeps its partial name; `check_complete`
        makes that an error for a member that did not fail before.
        """
        counts: dict[str, Any] = {}
        for key, handle in self._handles.items():
            captioned = [region_id for member, region_id in results if member == key]
            with self._alone(key):
                handle.close()
                if len(captioned) == len(self._regions) and set(captioned) == set(self._regions):
                    publish(self._folders[key] / PARTIAL, self._folders[key] / self._name)
            counts[f"{key}/num_captions"] = len(captioned)
        return counts


def check_complete(folder: Path, name: str = PREDICTIONS) -> None:
    """Raise a `CellError` if a run that did not fail has no complete predictions file."""
    if not (folder / name).exists():
        raise CellError(f"{folder / PARTIAL}: a region is missing or was captioned twice")

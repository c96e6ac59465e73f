"""SAM's masks of the thumbnails' regions: once per SAM and prompt, and at no cost to a number."""

import json
from pathlib import Path

import pytest
from PIL import Image
from pycocotools import mask as coco

from sca_bench.engine.worker import group_run
from sca_bench.files import file_name
from sca_bench.formats.rle import decode_mask
from sca_bench.models.sam.region_encoder import RegionEncoder
from sca_bench.reading import read_jsonl
from sca_bench.study.runs.store import PREDICTIONS, Store


def record_of(job, index=0):
    cell = job.cells[index]
    return Store(job.runs_dir).record(cell.cell_id, cell.seed)


def rows_of(job, index=0):
    path = Path(job.runs_dir) / record_of(job, index).masks_file
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def predictions_of(job, index=0):
    cell = job.cells[index]
    return read_jsonl(Store(job.runs_dir).run_dir(cell.cell_id, cell.seed) / PREDICTIONS)


def test_every_region_of_a_thumbnail_has_a_mask_in_its_frame(group_job, run_group):
    job = group_job({})
    assert not run_group(job).failed
    record, root = record_of(job), Path(job.runs_dir)
    predictions = predictions_of(job)
    rows = rows_of(job)
    assert [row["region_id"] for row in rows] == [row["region_id"] for row in predictions]
    for row, said in zip(rows, predictions, strict=True):
        thumbnail = Image.open(root / record.images_dir / f"{file_name(row['image_id'])}.png")
        assert row["size"] == [thumbnail.height, thumbnail.width]
        thumbnail.close()
        area = int(coco.area({"size": row["size"], "counts": row["counts"].encode()}))
        assert decode_mask(row).sum() == area
        assert row["predicted_iou"] == pytest.approx(max(said["predicted_ious"]), abs=1e-3)
    assert record.counters["encoder_forwards"] == record.counters["sam_mixer_forwards"] == 0


def test_cells_share_the_file_of_their_sam_and_prompt(group_job, run_group):
    first = group_job({}, {"mixer.num_layers": 2})
    run_group(first)
    name = record_of(first).masks_file
    assert record_of(first, 1).masks_file == name
    path = Path(first.runs_dir) / name
    path.write_text("kept as it is\n", encoding="utf-8")
    again = group_job({"train.learning_rate": 0.003})
    run_group(again)
    assert record_of(again).masks_file == name
    assert path.read_text(encoding="utf-8") == "kept as it is\n"
    points = group_job({"eval.prompt": "point"})
    run_group(points)
    assert record_of(points).masks_file not in ("", name)
    assert Path(record_of(points).images_dir) == Path(record_of(first).images_dir)


def test_no_embeddings_no_masks_and_no_image_encoded_for_them(group_job, run_group, tmp_path):
    job = group_job({"features.cache": "off"}, runs=tmp_path / "off")
    assert not run_group(job).failed
    assert record_of(job).masks_file == ""
    assert not (Path(job.runs_dir) / "masks").exists()
    kept = group_job({"features.cache": "encoder"}, runs=tmp_path / "encoder")
    assert not run_group(kept).failed
    assert len(rows_of(kept)) == len(predictions_of(kept))


def test_masks_move_no_caption(group_job, run_group, tmp_path, monkeypatch):
    with_masks = group_job({}, runs=tmp_path / "with")
    run_group(with_masks)
    monkeypatch.setattr(group_run, "write_masks", lambda *_: False)
    without = group_job({}, runs=tmp_path / "without")
    run_group(without)
    one, two = (predictions_of(job) for job in (with_masks, without))
    timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows]
                for rows in (one, two)]  # fmt: skip
    assert timeless[0] == timeless[1]
    assert record_of(with_masks).counters == record_of(without).counters


def test_a_mask_that_fails_fails_no_run_and_leaves_no_file(
    group_job, run_group, monkeypatch, capsys
):
    encode = RegionEncoder.from_embeddings

    def broken(self, *args, with_masks=False, **more):
        if with_masks:
            raise RuntimeError("no memory for a picture")
        return encode(self, *args, **more)

    monkeypatch.setattr(RegionEncoder, "from_embeddings", broken)
    job = group_job({})
    assert not run_group(job).failed
    assert (record_of(job).status, record_of(job).masks_file) == ("done", "")
    assert not (Path(job.runs_dir) / "masks").exists()
    assert "no memory for a picture" in capsys.readouterr().err

"""A mirror as commit 0a4924a wrote it: flat runs, with other names and no tag for that."""

import json

from sca_bench.digests import file_sha256
from sca_bench.engine.mlflow_mirror.notes import STATUS, ending_of, place_key
from sca_bench.study.keys.fingerprint import digest_json

PARAMS = (
    *("variant", "mixer.num_layers", "mixer.num_query_tokens", "sam.size", "sam.weights"),
    *("encoder.type", "text_decoder.weights", "text_decoder.trainable", "train.steps"),
    *("train.learning_rate", "train.images_per_batch", "train.precision", "eval.prompt"),
    "eval.num_beams",
)
FILES = ("record.json", "predictions.jsonl", "region_scores.json", "log.jsonl")


def write_old_mirror(store, manifest, uri, report=None):
    """Mirror a suite's runs, and its report where a folder is given; return their ids."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking_uri=uri)
    location = (store.root.resolve() / "mlartifacts" / manifest.report_name).as_uri()
    experiment = client.create_experiment(manifest.report_name, artifact_location=location)
    for key, value in {
        "mlflow.note.content": manifest.question,
        "mlflow.experimentKind": "custom_model_development",
    }.items():
        client.set_experiment_tag(experiment, key, value)
    ids = []
    for entry in manifest.cells:
        for seed in manifest.seeds:
            record = store.record(entry.cell_id, seed)
            if record is None:
                continue
            tags = {
                "sca_bench.cell_id": record.cell_id,
                "sca_bench.seed": str(seed),
                "sca_bench.suite": manifest.suite,
                "sca_bench.profile": manifest.profile,
                "sca_bench.revision": record.revision,
                "sca_bench.control": str(entry.control).lower(),
            }
            name = f"{entry.name}, seed {seed}"
            run = client.create_run(experiment, start_time=1000, run_name=name, tags=tags)
            ids.append(run.info.run_id)
            folder = store.run_dir(record.cell_id, seed)
            rows = store.log(record.cell_id, seed)
            points = [(k, v, row["step"]) for row in rows for k, v in row.items() if k != "step"]
            named = {"seed": seed, **{key: _get(record.settings, key) for key in PARAMS}}
            named |= entry.coordinates | dict.fromkeys(entry.ignored, "any")
            client.log_batch(
                run.info.run_id,
                metrics=[Metric(key, value, 0, step) for key, value, step in points],
                params=[Param(key, str(value)[:250]) for key, value in named.items()],
            )
            status = STATUS.get(record.status, "")
            if status:
                last = {f"test/{k}": s.value for k, s in record.scores.items() if s.value}
                last |= {f"cost/{key}": value for key, value in record.cost.items()}
                client.log_batch(
                    run.info.run_id, metrics=[Metric(k, v, 2000, 0) for k, v in last.items()]
                )
                client.set_tag(run.info.run_id, "sca_bench.error", record.error or "none")
                for file in FILES:
                    if (folder / file).exists():
                        client.log_artifact(run.info.run_id, str(folder / file))
                client.set_terminated(run.info.run_id, status=status)
            note = {"run_id": run.info.run_id, "rows": len(rows), "ended": ending_of(record)}
            key = place_key(uri, manifest.report_name)
            (folder / "mlflow.json").write_text(json.dumps({key: note}))
    if report is not None:
        files = sorted(path for path in report.iterdir() if path.is_file())
        stamp = digest_json({path.name: file_sha256(path) for path in files})
        tags = {"sca_bench.suite": manifest.suite, "sca_bench.profile": manifest.profile}
        run = client.create_run(
            experiment, run_name="summary", tags={**tags, "sca_bench.summary": "incomplete"}
        )
        for path in files:
            client.log_artifact(run.info.run_id, str(path))
        client.set_tag(run.info.run_id, "sca_bench.summary", stamp)
        client.set_terminated(run.info.run_id, status="FINISHED")
        ids.append(run.info.run_id)
    return ids


def _get(settings, path):
    node = settings
    for part in path.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node

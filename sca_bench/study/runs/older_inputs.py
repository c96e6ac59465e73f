"""Inputs as runs of older code digested them, before digests covered all that is read. No torch.

Such a run holds as far as its record can tell: `verify` says which inputs that leaves open.
"""

from __future__ import annotations

from sca_bench.digests import file_sha256
from sca_bench.study.keys.fingerprint import digest_json, is_aside
from sca_bench.study.runs.record import RunRecord
from sca_bench.weight_paths import resolve

_FEW = 64
"""Files up to which an image folder was digested by content, not by names and sizes."""


def fits_as_recorded(record: RunRecord, key: str, value: str) -> bool:
    """Say whether an input fits the little that a run of older code recorded of it.

    Args:
        record: The run.
        key: The input's setting, `data.test.images`.
        value: What the setting says.
    """
    if "inputs" in record.revisions:
        return False  # recorded whole
    return record.inputs.get(key) == _digest(value, key)


def _digest(value: str, key: str) -> str:
    if value.startswith("random:"):
        return value
    path = resolve(value, key)
    if path.is_file():
        return file_sha256(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())  # linked folders were not entered
    names = {str(p.relative_to(path)): p for p in files}
    names = {name: p for name, p in names.items() if not any(map(is_aside, name.split("/")))}
    if "data" in key.split(".") and len(names) > _FEW:
        return digest_json([[name, p.stat().st_size] for name, p in names.items()])
    return digest_json([[name, file_sha256(p)] for name, p in names.items()])

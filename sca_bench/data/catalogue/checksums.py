"""What was seen of a data set's files: sizes and checksums, recorded beside the data."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sca_bench.data.readers.json_files import check, read_json
from sca_bench.digests import file_sha256, file_stamp, has_stamp
from sca_bench.files import write_atomic

MANIFEST = "sca_bench_manifest.json"


class Manifest:
    """The record of one root folder; written after every change.

    Args:
        root: The folder.

    Raises:
        InputError: The record is damaged.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._path = root, root / MANIFEST
        self._files: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            content = check(read_json(self._path, "manifest"), "an object", self._path)
            self._files = content.get("files", {})

    def record(self, name: str, url: str | None) -> None:
        """Record a file that is there, unless it is recorded already."""
        path = self._root / name
        if name in self._files or not path.is_file():
            return
        stamp = file_stamp(path)  # first: what is written to meanwhile is looked at again
        self._files[name] = {"sha256": file_sha256(path), **stamp, "url": url}
        self._save()

    def known(self, name: str) -> tuple[int | None, str]:
        """Return size in bytes and SHA-256 of a recorded file; None and nothing of another."""
        entry = self._files.get(name, {})
        return entry.get("size"), entry.get("sha256", "")

    def forget(self, name: str) -> None:
        """Forget a file, before another takes its place."""
        if self._files.pop(name, None) is not None:
            self._save()

    def changed(self, *, thorough: bool) -> Iterator[tuple[str, str]]:
        """Yield (file, problem) for every recorded file that is there and is another now.

        Args:
            thorough: Compute all checksums again, not only those of files that were touched.
        """
        for name, known in sorted(self._files.items()):
            path = self._root / name
            if not path.is_file():
                continue  # an archive may be deleted once it is unpacked
            if not thorough and has_stamp(path, known):
                continue
            stamp = file_stamp(path)
            digest = file_sha256(path)
            if digest != known["sha256"]:
                yield name, f"SHA-256 is {digest}, recorded was {known['sha256']}"
            elif any(known.get(key) != value for key, value in stamp.items()):
                known.update(stamp)
                with contextlib.suppress(OSError):  # a folder of somebody else's
                    self._save()

    def _save(self) -> None:
        text = json.dumps({"files": self._files}, indent=1, sort_keys=True)
        write_atomic(self._path, text + "\n")

"""Content digests of the files a cell reads. A path never enters a key, its content does."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sca_bench import pixels
from sca_bench.errors import InputError
from sca_bench.files import FileDigests
from sca_bench.pixels import picture_marks
from sca_bench.settings import CellSettings, items_of
from sca_bench.settings.data import INDEX_FOLDER
from sca_bench.study.keys.hub import hub_commit
from sca_bench.weight_paths import resolve

_NOT_FILES = ("random",)
HUB_KEYS = ("text_decoder.weights", "baseline.weights", "baseline.tokenizer")
"""Settings that may name a repository of the Hugging Face hub instead of a path."""
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
SMALL_FOLDER = 64
"""Files up to which an image folder is digested by content."""


def digest_json(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def path_settings(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted path, value) of every `path` setting that is given."""
    for name, kind, value in items_of(settings):
        if isinstance(value, BaseModel):
            yield from path_settings(value, f"{prefix}{name}.")
        elif value is not None and kind == "path":
            yield f"{prefix}{name}", str(value)


class Fingerprints:
    """Digests of files, remembered as `FileDigests` does, and of folders, looked at once.

    Args:
        memory: SQLite file that keeps them between runs; none where None.
        fixes: Named path nobody has given -> where to get it. Where this is not None, what is
            missing gets a digest of its own in place of an error; `problems` says what it is.
    """

    def __init__(self, memory: Path | None = None, fixes: Mapping[str, str] | None = None) -> None:
        self._files, self._fixes = FileDigests(memory), fixes
        self._marks = picture_marks(memory)
        self._problems: dict[str, str] = {}
        self._folders: dict[tuple[Path, bool], str] = {}

    def inputs(self, settings: CellSettings) -> dict[str, str]:
        """Return dotted path -> digest for every path setting of a cell.

        A hub id is a digest with the commit that its files are of, as far as that can be told.

        Raises:
            InputError: A named file or folder does not exist (unless that is allowed).
        """
        digests: dict[str, str] = {}
        for key, value in path_settings(settings):
            try:
                digests[key] = self._digest(value, key)
            except InputError as error:
                if self._fixes is None:
                    raise
                digests[key] = f"missing:{value}"
                self._problems[digests[key]] = self._problem(value, error, self._fixes)
        return digests

    def problems(self, inputs: Mapping[str, str]) -> list[str]:
        """Return what is missing of a cell's inputs, each with how to get it."""
        return [self._problems[d] for d in inputs.values() if d in self._problems]

    @staticmethod
    def _problem(value: str, error: InputError, fixes: Mapping[str, str]) -> str:
        if name := re.search(r"<(\w+)>", value):
            get = fixes.get(name[1], "")
            return f"paths.{name[1]} is not given, --set paths.{name[1]}=PATH" + (
                f" ({get})" if get else ""
            )
        return f"{error.key}: {error.problem}"

    def _digest(self, value: str, key: str) -> str:
        if value.split(":")[0] in _NOT_FILES:
            return value
        path = resolve(value, key)
        if path.is_file():
            return self._files.of(path)
        if path.is_dir():
            folder_key = (path.resolve(), "data" in key.split("."))
            if folder_key not in self._folders:  # a million images, named by every cell and stage
                self._folders[folder_key] = self._folder(path, is_data=folder_key[1])
            return self._folders[folder_key]
        if key in HUB_KEYS and _HUB_ID.fullmatch(value):
            commit = hub_commit(value)
            return f"hub:{value}@{commit}" if commit else f"hub:{value}"
        raise InputError(None, key, f"{value!r}: no such file or folder", "check the path")

    def _folder(self, path: Path, *, is_data: bool) -> str:
        """Digest a folder by its files' contents; large image folders by names and sizes.

        Hidden files (a download's book-keeping) and indices of annotations do not count. A folder
        of images with pictures that were once read as other pixels has another digest.
        """
        inside = {p: p.relative_to(path) for p in sorted(path.rglob("*")) if p.is_file()}
        names = {
            file: str(name)
            for file, name in inside.items()
            if not any(part.startswith(".") or part == INDEX_FOLDER for part in name.parts)
        }
        if is_data and len(names) > SMALL_FOLDER:
            digest = digest_json([[name, file.stat().st_size] for file, name in names.items()])
        else:
            digest = digest_json([[name, self._files.of(file)] for file, name in names.items()])
        marked = [name for file, name in names.items() if is_data and self._is_marked(file)]
        return digest_json([digest, pixels.REVISION, marked]) if marked else digest

    def _is_marked(self, file: Path) -> bool:
        return self._marks.of(file) == pixels.REVISION

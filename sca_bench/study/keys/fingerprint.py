"""Content digests of the files a cell reads. A path never enters a key, its content does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sca_bench.digests import FileDigests, folder_content
from sca_bench.errors import InputError
from sca_bench.files import name_text
from sca_bench.formats import pixels
from sca_bench.settings import CellSettings, items_of
from sca_bench.settings.splits import INDEX_FOLDER
from sca_bench.study.keys.hub import hub_commit
from sca_bench.study.keys.onnx_files import external_data
from sca_bench.walk import is_hidden, walk
from sca_bench.weight_paths import resolve, shards_of

_NOT_FILES, _SIZES = ("random",), "config.json"
HUB_KEYS = ("text_decoder.weights", "baseline.weights", "baseline.tokenizer")
"""Settings that may name a repository of the Hugging Face hub instead of a path."""
ONNX_KEY = "encoder.path"
INPUTS_REVISION = "2"
"""What records say of digests that cover all that is read; they said nothing before."""
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


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
        self._marks = pixels.picture_marks(memory)
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
                with _readable():
                    digests[key] = self._digest(value, key)
            except InputError as error:
                error.key = error.key or key
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
        return ": ".join(filter(None, (error.where, error.key, error.problem)))

    def _digest(self, value: str, key: str) -> str:
        if value.split(":")[0] in _NOT_FILES:
            return self._untrained(value)
        path = resolve(value, key)
        if path.is_file():
            return self._file(path, key)
        if path.is_dir():
            is_data = "data" in key.split(".")
            if not is_data:
                shards_of(path)  # all of them lie inside, or an error says which does not
            known = path.resolve(), is_data
            if known not in self._folders:  # a million images, named by every cell and stage
                self._folders[known] = self._folder(path, is_data=is_data)
            return self._folders[known]
        if key in HUB_KEYS and _HUB_ID.fullmatch(value):
            commit = hub_commit(value)
            return f"hub:{value}@{commit}" if commit else f"hub:{value}"
        raise InputError(None, key, f"{value!r}: no such file or folder", "check the path")

    def _folder(self, path: Path, *, is_data: bool) -> str:
        """Digest a folder; one with pictures that were once read as other pixels has another."""
        digest = digest_json(folder_content(path, self._files, is_aside))
        if not is_data:
            return digest
        inside = list(walk(path, is_aside))
        marks = self._marks.of_all(file for _, file in inside)
        marked = [
            name_text(name)
            for (name, _), mark in zip(inside, marks, strict=True)
            if mark == pixels.REVISION
        ]
        return digest_json([digest, pixels.REVISION, marked]) if marked else digest

    def _untrained(self, value: str) -> str:
        """Return `random` or `random:PRESET`; of `random:FOLDER`, the content of its sizes."""
        kind, _, name = value.partition(":")
        if not name or not (Path(name) / _SIZES).is_file():
            return value
        sizes = sorted(Path(name).glob("config*.json"))
        return f"{kind}:{digest_json([[p.name, self._files.of(p)] for p in sizes])}"

    def _file(self, path: Path, key: str) -> str:
        """Digest a file, with the files that it names and that are read with it."""
        own = self._files.of(path)
        named = external_data(path) if key == ONNX_KEY or path.suffix == ".onnx" else {}
        if not named:
            return own
        return digest_json([own, [[name, self._files.of(file)] for name, file in named.items()]])


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(error.filename, "", f"cannot be read ({error.strerror})") from None


def is_aside(name: str) -> bool:
    """Say whether a file or folder is no part of the data: book-keeping, an annotations' index."""
    return is_hidden(name) or name == INDEX_FOLDER

"""Getting a data set ready: what is there, what is to fetch, checksums, indices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sca_bench.data.catalogue.checksums import Manifest
from sca_bench.data.catalogue.download import Say, download, partial_path, unpack
from sca_bench.data.catalogue.types import DataSet, Remote
from sca_bench.data.index.lookup import annotations_of, index_sizes
from sca_bench.data.load import load_split
from sca_bench.errors import InputError, at
from sca_bench.files import make_folder
from sca_bench.settings.splits import INDEX_FOLDER


@dataclass(frozen=True)
class RemoteState:
    """One file of a data set and how far it is.

    Attributes:
        remote: The file.
        state: `there`, `to unpack`, `N bytes are here`, `to fetch`, `by hand` or `in an archive`.
        size: Its bytes, as published or recorded; None where unknown.
        sha256: Its checksum, where one was recorded.
    """

    remote: Remote
    state: str
    size: int | None
    sha256: str

    @property
    def source(self) -> str:
        """Where it comes from, for people."""
        return self.remote.url or self.remote.by_hand or "comes with an archive above"


def needs(dataset: DataSet, root: Path) -> list[RemoteState]:
    """Return every file of a data set and how far it is."""
    manifest = Manifest(root)
    states = []
    for remote in dataset.remotes:
        size, digest = manifest.known(remote.path)
        states.append(RemoteState(remote, _state(remote, root), size or remote.size, digest))
    return states


def fetch(dataset: DataSet, root: Path, say: Say) -> list[RemoteState]:
    """Fetch and unpack what is missing, record checksums; return what is still missing.

    Args:
        dataset: The data set.
        root: Its folder, made if it is not there.
        say: Takes lines for the user.

    Raises:
        InputError: A server cannot be reached, an archive is damaged, or a file is not the one that
            was recorded.
    """
    make_folder(root)
    manifest = Manifest(root)
    for name, problem in manifest.changed(thorough=False):
        fix = f"delete it to fetch it again, or delete its entry in {root}'s manifest"
        raise InputError(root / name, "", problem, fix)
    for remote in dataset.remotes:
        archive = root / remote.path
        if _state(remote, root) == "there":
            _record(manifest, remote)
            continue
        if not archive.exists() and remote.url is not None:
            manifest.forget(remote.path)
            download(remote.url, archive, say)
        if archive.is_file():
            _check_size(archive, remote)
            manifest.record(remote.path, remote.url)
            if remote.unpack_to is not None:
                say(f"{archive}: unpacking")
                unpack(archive, root / remote.unpack_to)
        _record(manifest, remote)
    return [need for need in needs(dataset, root) if need.state != "there"]


def build_indices(dataset: DataSet, root: Path, say: Say) -> None:
    """Make the index of every split whose annotations are there (see `index`).

    Raises:
        InputError: An annotation file is damaged or not of its form.
    """
    folders = set()
    for make in (*dataset.splits.values(), *dataset.also_read):
        split = make(root)
        if annotations_of(split).exists():
            folder = annotations_of(split).parent / INDEX_FOLDER
            make_folder(folder)
            folders.add(folder)
            with at(f"data prepare {dataset.name}"):
                load_split(split)
    for folder in sorted(folders):
        for name, counts, size in index_sizes(folder):
            regions, images = counts["regions"], counts["images"]
            text = f"{regions:,} regions in {images:,} images, {size / 2**20:.1f} MiB"
            say(f"{folder / name}: {text}")


def _state(remote: Remote, root: Path) -> str:
    if all((root / name).exists() for name in remote.gives):
        return "there"
    if (root / remote.path).is_file():
        return "to unpack"
    part = partial_path(root / remote.path)
    if part.exists():
        return f"{part.stat().st_size:,} bytes are here"
    if remote.url is not None:
        return "to fetch"
    return "by hand" if remote.by_hand else "in an archive"


def _record(manifest: Manifest, remote: Remote) -> None:
    for name in remote.gives:
        manifest.record(name, remote.url)


def _check_size(archive: Path, remote: Remote) -> None:
    size = archive.stat().st_size
    if remote.size is not None and size != remote.size:
        problem = f"has {size:,} bytes, published are {remote.size:,}"
        raise InputError(archive, "", problem, "delete it and run the same command again")

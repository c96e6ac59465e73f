"""No process that a run starts may have lost CUDA by being forked from one that asked for it.

None of this needs a GPU: a CUDA build of torch marks the children of a process that has asked for
CUDA, whether there is a driver or not. Such a child ends with "Cannot re-initialize CUDA in forked
subprocess" as soon as it touches a GPU.
"""

import json
import time
from pathlib import Path

import pytest
import torch

from sca_bench.cli import main
from sca_bench.data.pipeline.dataset import ViewDataset
from sca_bench.engine import loaders
from sca_bench.engine.worker.pool import Pool
from sca_bench.files import write_atomic
from sca_bench.study.keys.cell import CellIdentity

pytestmark = pytest.mark.usefixtures("servers_of_a_run")
cuda_build = pytest.mark.skipif(
    torch.version.cuda is None, reason="torch is built without CUDA: nothing can be lost"
)


def tell(path):
    """Say what a process of the pool can do, before and after the imports of a worker."""
    at_start = torch.cuda._is_in_bad_fork()
    import sca_bench.engine.worker.group_run  # noqa: F401

    write_atomic(path, json.dumps([at_start, torch.cuda._is_in_bad_fork()]))


def tell_batch(samples):
    """Stand in for `collate`: say what a loader's process can do."""
    return torch.cuda._is_in_bad_fork()


@cuda_build
def test_a_child_of_the_pool_may_use_cuda(tmp_path):
    """Workers, preparers and probe runs are all started here; the server is forked from no one."""
    process = Pool(tmp_path, 1)._context.Process(target=tell, args=(tmp_path / "told.json",))
    process.start()
    process.join()
    assert json.loads((tmp_path / "told.json").read_text()) == [False, False]


LOADERS = {
    "train": lambda dataset, s: loaders.train_loader(dataset, s, seed=3, start=0),
    "eval": loaders.eval_loader,
    "stored": loaders.stored_loader,
    "view": lambda dataset, s: loaders.view_loader(ViewDataset(dataset), [0, 1], s),
}


@cuda_build
@pytest.mark.parametrize("kind", LOADERS)
def test_a_loader_s_process_is_not_forked_from_the_one_that_trains(
    cell_settings, monkeypatch, kind
):
    torch.cuda.is_available()  # as the import of mmengine does in every worker
    settings = cell_settings({"runtime.loader_workers": 1})
    cell = CellIdentity(settings, {})
    sets = loaders.load_splits(cell)
    dataset = loaders.make_dataset(sets, "train", cell, image_size=96, seed=3, with_pixels=False)
    monkeypatch.setattr(loaders, "collate", tell_batch)
    assert next(iter(LOADERS[kind](dataset, settings))) is False


def load_for_ever(settings, path):
    """Load with one process, whose id is left in a file, until killed."""
    cell = CellIdentity(settings, {})
    sets = loaders.load_splits(cell)
    dataset = loaders.make_dataset(sets, "train", cell, image_size=96, seed=3, with_pixels=False)
    loader = loaders.train_loader(dataset, settings, seed=3, start=0)
    next(iter(loader))
    write_atomic(path, str(loader._iterator._workers[0].pid))
    time.sleep(600)


def is_alive(pid):
    """Say whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at processes in /proc")
def test_a_loader_s_process_ends_with_a_killed_worker(cell_settings, tmp_path):
    path, settings = tmp_path / "pid", cell_settings({"runtime.loader_workers": 1})
    worker = Pool(tmp_path, 1)._context.Process(target=load_for_ever, args=(settings, path))
    worker.start()
    pid = wait_for(lambda: path.exists() and path.read_text())
    assert is_alive(pid)
    worker.kill()
    worker.join()
    assert wait_for(lambda: not is_alive(pid))


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.05)
    return condition()


def test_batches_are_pinned_for_a_job_on_cuda_alone(cell_settings, monkeypatch):
    """Pinning starts CUDA, which a run on the CPU of a machine with a GPU has no use for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    settings = cell_settings()
    cell = CellIdentity(settings, {})
    sets = loaders.load_splits(cell)
    dataset = loaders.make_dataset(sets, "train", cell, image_size=96, seed=3, with_pixels=False)
    assert not loaders.train_loader(dataset, settings, seed=3, start=0).pin_memory
    assert loaders.train_loader(dataset, settings, seed=3, start=0, pin_memory=True).pin_memory


@cuda_build
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the run would go on")
def test_a_run_on_cuda_gets_as_far_as_the_driver(suite_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    path = suite_file(axes="{mixer.num_layers: [1]}", changes={"runtime.device": "cuda"})
    words = ["run", str(path), "--no-mlflow", "--runs-dir", str(tmp_path / "runs")]
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "Cannot re-initialize CUDA in forked subprocess" not in out
    assert "Found no NVIDIA driver" in out

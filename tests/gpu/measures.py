"""What the device check measures: each section takes the check and leaves figures in it."""

from __future__ import annotations

import collections
import gc
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from full_size import NEW_TOKENS, Cells, Size, drawn_on

from sca_bench.captioner import Decoding
from sca_bench.devices import gpu
from sca_bench.devices.arithmetic import arithmetic
from sca_bench.engine.worker.cell_group import autocast
from sca_bench.models.sam.sam import build_sam
from sca_bench.models.text_decoder.loading import untrained_twin

ROOT = Path(__file__).parents[2]
TINY = Size("tiny", untrained_twin("embedded:lm_scenes"), 2, 2, (1, 2), "fp32")
"""What a dry run measures, on any machine."""
LARGE = Size("vit_h", "random:gpt2-large", 8, 16, (2, 4, 8, 12), "fp16")
SIZES = (
    LARGE,
    Size("vit_b", "random:gpt2", 8, 16, (2, 4, 8, 12), "fp16"),
    Size("vit_b", "random:gpt2", 1, 16, (2, 12), "fp16"),
)
WAIT = "synchronizing CUDA operation"
"""What torch's debug mode says where the host waits for the device."""


class Check:
    """The device, the time that is left, and what was found.

    Attributes:
        device: Where everything runs.
        dry: Whether shapes are tiny and nothing is claimed.
        found: Section -> its figures, for `device.json`.
        rows: Section, what, value: the table.
    """

    def __init__(self, device: torch.device, dry: bool, until: float) -> None:
        self.device, self.dry, self._until = device, dry, until
        self.found: dict[str, dict[str, Any]] = {}
        self.rows: list[tuple[str, str, str]] = []
        self.section = ""

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self._until - time.monotonic()

    @property
    def sizes(self) -> tuple[Size, ...]:
        """What is measured, the paper's size first."""
        return (TINY,) if self.dry else SIZES

    def note(self, what: str, value: Any, text: str = "") -> None:
        """Keep a figure, and print a row of it."""
        self.found.setdefault(self.section, {})[what] = value
        shown = text or (f"{value:.2f}" if isinstance(value, float) else str(value))
        self.rows.append((self.section, what, shown))
        print(f"  {what:60} {shown}", flush=True)

    def timed(self, work: Callable[[], object], repeats: int = 5) -> dict[str, float]:
        """Return the median milliseconds of some work, those of the host alone, and peak GiB."""
        gc.collect()
        gpu.free_unused_memory(self.device)
        gpu.forget_peak_memory(self.device)
        whole, host = [], []
        warm = 1 if self.dry else 2
        for turn in range(warm + (1 if self.dry else repeats)):
            gpu.wait_for(self.device)
            started = time.perf_counter()
            work()
            asked = time.perf_counter() - started
            gpu.wait_for(self.device)
            if turn >= warm:
                whole.append(time.perf_counter() - started)
                host.append(asked)
        peak = gpu.peak_memory_bytes(self.device) or 0
        middle = len(whole) // 2
        return {
            "ms": 1e3 * sorted(whole)[middle],
            "host_ms": 1e3 * sorted(host)[middle],
            "peak_gib": peak / 2**30,
        }


def _text(found: dict[str, float]) -> str:
    return f"{found['ms']:.1f} ms, host {found['host_ms']:.1f} ms, {found['peak_gib']:.1f} GiB"


def start(check: Check) -> None:
    """The machine, its ceilings, and whether a worker's process reaches the device."""
    check.note("date", time.strftime("%Y-%m-%d"))
    check.note("machine", gpu.gpu_name(check.device) if gpu.is_gpu(check.device) else "no GPU")
    check.note("python, torch", f"{platform.python_version()}, {torch.__version__}")
    check.note("transformers, cores", f"{transformers.__version__}, {os.cpu_count()}")
    side, numbers = (512, 2**20) if check.dry else (8192, 2**30)
    source = torch.randn(numbers, device=check.device)
    target = torch.empty_like(source)
    seconds = check.timed(lambda: target.copy_(source))["ms"] / 1e3
    check.note("copy, TB a second", 2 * source.nbytes / seconds / 1e12)
    for dtype in (torch.float16, torch.float32) if not check.dry else (torch.float32,):
        square = torch.randn(side, side, device=check.device, dtype=dtype)
        seconds = check.timed(lambda square=square: square @ square)["ms"] / 1e3
        check.note(f"product in {dtype}, TFLOP a second", 2 * side**3 / seconds / 1e12)
    small = torch.zeros(8, device=check.device)
    check.note("a launch, us", check.timed(lambda: [small.add_(1) for _ in range(1000)])["ms"])
    for name, kind in (("pageable", torch.Tensor.contiguous), ("pinned", torch.Tensor.pin_memory)):
        if gpu.is_gpu(check.device):
            pixels = kind(torch.empty(8, 3, 1024, 1024))
            took = check.timed(lambda p=pixels: p.to(check.device, non_blocking=True))
            check.note(f"100 MB to the device, {name}", took, _text(took))
    _pytest(check, "a worker reaches the device", "tests/engine/worker/test_pool_reaches_cuda.py")


def correctness(check: Check) -> None:
    """The tests that need a GPU: every variant there as on a CPU, and the engine's promises."""
    places = ["tests/models/test_sca.py", "tests/device"]
    _pytest(check, "tests on the device", *places, marked="gpu")


def _pytest(check: Check, what: str, *places: str, marked: str = "") -> None:
    if check.dry:  # this is itself a test
        check.note(what, "left out of a dry run")
        return
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    command += [*(["-m", marked] if marked else []), "-W", "default", *places]
    try:
        limit = max(10.0, min(240.0, check.left_s - 60))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        check.note(what, "not done in time")
        return
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["no answer"]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    check.note(what, {"last": lines[-1], "failed": failed, "end": lines[-60:]}, lines[-1])
    for line in failed[:10]:
        check.note(line[:60], "failed")


def training(check: Check) -> None:
    """A training step: alone and in lockstep, with the encoder and from kept embeddings."""
    for number, size in enumerate(check.sizes):
        if number and check.left_s < 60:
            check.note(str(size), "no time left")
            continue
        _steps(check, size)
        gc.collect()
    if not check.dry and check.left_s > 150:
        _compiled(check)


def _steps(check: Check, size: Size) -> None:
    cells = Cells(size, check.device)
    last = str(size.depths[-1])
    alone, together = cells.group(last), cells.group()
    pixels, kept = cells.batch(), cells.embedded()
    for label, group, batch in (
        (f"depth {last}", alone, pixels),
        (f"depth {last}, kept embeddings", alone, kept),
        (f"{len(size.depths)} depths in lockstep", together, pixels),
        (f"{len(size.depths)} depths in lockstep, kept embeddings", together, kept),
    ):
        took = check.timed(lambda group=group, batch=batch: cells.step(group, batch))
        own = {m.key: 1e3 * m.clock.median_s(1) for m in group.members}
        text = f"{_text(took)}, own part {own[last]:.1f} ms"
        check.note(f"{size}, {label}", {**took, "own_ms": own}, text)


def _compiled(check: Check) -> None:
    """Compile the blocks, and time the same step."""
    cells = Cells(LARGE._replace(depths=(12,)), check.device, runtime__compile=True)
    group, batch, started = cells.group(), cells.embedded(), time.monotonic()
    cells.step(group, batch)
    gpu.wait_for(check.device)
    compiling_s = time.monotonic() - started
    took = check.timed(lambda: cells.step(group, batch))
    text = f"{_text(took)}, after {compiling_s:.0f} s"
    check.note("depth 12, kept embeddings, compiled", {**took, "compiling_s": compiling_s}, text)


def generation(check: Check) -> None:
    """Captions a second, by beams and by how many go together."""
    size = check.sizes[0]._replace(images=1, depths=check.sizes[0].depths[:1])
    cells = Cells(size, check.device)
    decoder = cells.parts.text_decoder.eval()
    for beams in (1, 3):
        for regions in (4,) if check.dry else (64, 256, 512):
            prefix = 0.1 * torch.randn(regions, 14, decoder.width, device=check.device)

            def work(prefix: torch.Tensor = prefix, beams: int = beams) -> None:
                with torch.no_grad(), autocast(check.device, size.precision):
                    decoder.generate(prefix, Decoding(beams, NEW_TOKENS))

            took = check.timed(work, 3)
            each = f"{1e3 * regions / took['ms']:.0f} regions a second"
            text = f"{each}, {took['ms'] / NEW_TOKENS:.1f} ms a token, {took['peak_gib']:.1f} GiB"
            check.note(f"{size.decoder_name}, {beams} beams, {regions} regions", took, text)


def encoder(check: Check) -> None:
    """The image encoder by precision."""
    images = 2 if check.dry else 8
    for name in dict.fromkeys(size.sam for size in check.sizes):
        with torch.device("meta"):
            sam = build_sam(name)
        drawn_on(sam, check.device).eval()
        side = sam.dims.image_size
        pixels = torch.randn(images, 3, side, side, device=check.device)
        for precision in ("fp32",) if check.dry else ("fp16", "bf16", "tf32", "fp32"):

            def work(precision: str = precision, sam: Any = sam, pixels: Any = pixels) -> None:
                with (
                    torch.no_grad(),
                    arithmetic(check.device, tf32=precision == "tf32"),
                    autocast(check.device, precision),
                ):
                    sam.encode_images(pixels)

            took = check.timed(work, 3)
            text = f"{took['ms'] / images:.1f} ms an image, {took['peak_gib']:.1f} GiB"
            check.note(f"{name}, {precision}, {images} images", took, text)


def waits(check: Check) -> None:
    """Where a training step makes the host wait for the device, by torch's own debug mode."""
    if not gpu.is_gpu(check.device):
        check.note("a step", "needs CUDA")
        return
    size = check.sizes[-1]._replace(images=1, depths=(2,))
    cells = Cells(size, check.device)
    group, batch = cells.group(), cells.batch()
    for _ in range(2):
        cells.step(group, batch)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            cells.step(group, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places = collections.Counter(
        "/".join(Path(w.filename).parts[-2:]) + f":{w.lineno}"
        for w in seen
        if WAIT in str(w.message)
    )
    check.note("a step", dict(places), str(dict(places)) if places else "no wait")


def kernels(check: Check) -> None:
    """The kernels of an own step by time, and the share of the step in which the GPU was busy."""
    if not gpu.is_gpu(check.device):
        check.note("a step", "needs CUDA")
        return
    from torch.profiler import ProfilerActivity, profile

    for size in check.sizes[::2]:
        cells = Cells(size._replace(depths=(12,)), check.device)
        group, batch = cells.group(), cells.embedded()
        for _ in range(3):
            cells.step(group, batch)
        gpu.wait_for(check.device)
        started = time.perf_counter()
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
            cells.step(group, batch)
            gpu.wait_for(check.device)
        ms = 1e3 * (time.perf_counter() - started)
        cuda = torch.autograd.DeviceType.CUDA
        events = [e for e in seen.key_averages() if e.device_type == cuda]
        events.sort(key=lambda e: -e.self_device_time_total)
        busy = sum(e.self_device_time_total for e in events) / 1e3
        count = sum(e.count for e in events)
        top = [[e.key[:90], e.count, e.self_device_time_total / 1e3] for e in events[:15]]
        figures = {"kernels": count, "busy_ms": busy, "ms": ms, "top": top}
        check.note(f"{size}, depth 12", figures, f"{count} kernels, busy {busy:.1f} of {ms:.1f} ms")
        for name, times, took in top[:5]:
            check.note(f"  {name[:58]}", took, f"{times} times, {took:.1f} ms")
        del cells, group, batch

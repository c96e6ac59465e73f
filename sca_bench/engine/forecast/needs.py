"""What a suite needs at one scale, what of it is here, and how to get the rest.

No torch: a machine without any of the data or weights can be asked as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sca_bench.errors import InputError, NotComputed
from sca_bench.metrics.registry import Requirement, get_metric
from sca_bench.plugins import attribute, is_own
from sca_bench.study.keys.fingerprint import HUB_KEYS, path_settings
from sca_bench.study.suite.suite import FIRST_OF_IMAGE, Suite
from sca_bench.variants import get_variant
from sca_bench.walk import bytes_of
from sca_bench.weight_paths import PACKAGE_PREFIX, PREFIX, resolve

_GIB = 2**30
_REPAIR = "repair or reinstall the package"


@dataclass(frozen=True)
class Need:
    """One thing that a run needs.

    Attributes:
        what: The setting, program or part of the machine.
        state: `there`, `missing`, or what else is to be said of it.
        found: What there is.
        get: What to do about it.
        stops: Whether a run cannot do without it.
    """

    what: str
    state: str
    found: str = ""
    get: str = ""
    stops: bool = True


def needs_of(suite: Suite, runs_dir: Path) -> list[Need]:
    """Return everything a suite needs, files first."""
    code = [*_of_variants(suite), *metric_needs(suite)]
    return [*_files(suite), *code, *_machine(suite, runs_dir)]


def missing(needs: list[Need]) -> list[Need]:
    """Return the needs without which nothing can run."""
    return [need for need in needs if need.state == "missing" and need.stops]


def _files(suite: Suite) -> Iterator[Need]:
    """Yield every named path that was not given, then every file and folder that cells name."""
    for name, get in suite.missing.items():
        give = f"--set paths.{name}=PATH"
        yield Need(f"paths.{name}", "missing", "not given", f"{get}; {give}" if get else give)
    seen: set[tuple[str, str]] = set()
    for cell in suite.cells:
        for key, value in path_settings(cell.settings):
            if (key, value) in seen or value.startswith("random") or "<" in value:
                continue
            seen.add((key, value))
            yield _file(key, value)

    for name, which in suite.subsets.items():
        if which != FIRST_OF_IMAGE and "<" not in which:
            yield _file(f"subsets.{name}", which)


def _file(key: str, value: str) -> Need:
    if value.startswith((PREFIX, PACKAGE_PREFIX)):
        try:
            return Need(key, "there", f"{value} ({_size(resolve(value))})")
        except InputError as error:
            return Need(key, "missing", value, error.fix)
    path = Path(value).expanduser()
    if path.is_file():
        return Need(key, "there", f"{path} ({_size(path)})")
    if path.is_dir():
        count = sum(1 for _ in os.scandir(path))
        return Need(key, "there" if count else "missing", f"{path} ({count} entries)", "")
    if key in HUB_KEYS and value.count("/") == 1 and not value.startswith("."):
        return _hub(key, value)
    fix = "see `python -m sca_bench data prepare --help`" if "data." in key else "check the path"
    return Need(key, "missing", value, fix)


def _hub(key: str, name: str) -> Need:
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str):
        return Need(key, "there", f"hub id {name}, in the local cache")
    get = f"is downloaded at the first run; offline: `hf download {name}` where there is a network"
    return Need(key, "to be downloaded", f"hub id {name}, not in the local cache", get, stops=False)


def _size(path: Path) -> str:
    return f"{bytes_of(path) / 2**20:.1f} MiB"


def _of_variants(suite: Suite) -> Iterator[Need]:
    """Yield the code that variants of other packages name and that is not there."""
    for name in sorted({cell.settings.variant for cell in suite.cells}):
        for field, path in get_variant(name).named_code().items():
            module = path.partition(":")[0]
            if not is_own(path) and not _is_there(module):
                found = f"{field} {path}: no module {module}"
                yield Need(f"variant {name}", "missing", found, _REPAIR)


def _is_there(module: str) -> bool:
    """Look for a module; only the packages that it lies in are imported for it."""
    try:
        return find_spec(module) is not None
    except Exception:  # another package's, on import
        return False


def metric_needs(suite: Suite) -> Iterator[Need]:
    """Yield what a suite's metrics require; without it they are left out, with the reason."""
    faults: list[Need] = []
    wanted: dict[Requirement, list[str]] = {}
    for name in suite.metrics:
        spec = get_metric(name)
        module = spec.compute.partition(":")[0]
        if spec.fault:
            faults.append(Need(f"metric {name}", "missing", "", spec.fault, stops=False))
        elif not spec.is_own and not _is_there(module):
            found = f"compute {spec.compute}: no module {module}"
            faults.append(Need(f"metric {name}", "missing", found, _REPAIR, stops=False))
        else:
            for requirement in spec.requires:
                wanted.setdefault(requirement, []).append(name)
    for requirement, names in wanted.items():
        yield _required(requirement, names)
    yield from faults


def _required(requirement: Requirement, metrics: list[str]) -> Need:
    what = f"{requirement.what}, for {', '.join(sorted(metrics))}"
    try:
        return Need(what, "there", str(attribute(requirement.find)()))
    except NotComputed as error:
        return Need(what, "missing", "", str(error), stops=False)
    except (Exception, SystemExit) as error:  # of another package
        reason = " ".join(f"{requirement.find} raised {type(error).__name__}: {error}".split())
        return Need(what, "missing", reason, _REPAIR, stops=False)


def _machine(suite: Suite, runs_dir: Path) -> Iterator[Need]:
    if disk := suite.needs.get("disk_gib"):
        existing = next(p for p in (runs_dir.resolve(), *runs_dir.resolve().parents) if p.exists())
        free = shutil.disk_usage(existing).free / _GIB
        state = "there" if free >= disk else "missing"
        get = "" if free >= disk else "name a larger disk with --runs-dir"
        what = f"{disk:g} GiB of disk for {runs_dir}"
        yield Need(what, state, f"{free:.0f} GiB free", get, stops=False)
    if memory := suite.needs.get("gpu_memory_gib"):
        what = f"a GPU with {memory:g} GiB"
        gpus = _gpus()
        best = max((gib for _, gib in gpus), default=0.0)
        names = ", ".join(f"{name} ({gib:.0f} GiB)" for name, gib in gpus) or "no GPU"
        if best >= memory:
            yield Need(what, "there", names)
        else:
            get = "run it on a machine with CUDA; a CPU does it too, in months"
            if gpus:
                get = "lower runtime.eval_regions, or set text_decoder.gradient_checkpointing"
            yield Need(what, "missing", names, get, stops=False)


def _gpus() -> list[tuple[str, float]]:
    """Return name and memory in GiB of every GPU that the driver's tool lists."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rpartition(",") for line in out.splitlines() if line.strip())
    return [(name.strip(), float(mib) / 1024) for name, _, mib in rows]

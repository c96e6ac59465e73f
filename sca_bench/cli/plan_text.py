"""What `plan` prints: what cells share, what is left of them, and what that takes. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console

from sca_bench.engine.forecast import forward_counts as fw
from sca_bench.engine.forecast.costs import PlanCosts
from sca_bench.engine.forecast.gpu_hours import GPUS, GpuTime, PartTimes, gpu_time, peak_gib
from sca_bench.engine.forecast.wall_time import TimeForecast, forecast_time
from sca_bench.output import in_words, num_text, text_table
from sca_bench.study.keys.cell import Cell
from sca_bench.study.plan.plan import Group, Job, Plan
from sca_bench.study.plan.schedule import Machine, Schedule, make_schedule
from sca_bench.study.plan.sharing_tree import Node, sharing_tree
from sca_bench.study.runs.store import Store

_GIB, _HOUR = 2**30, 3600
_BUSY = 0.85
"""Share of its core below which the plan says that other programs were at work."""


def print_sharing(console: Console, plan: Plan) -> None:
    """Print the tree of what is shared, what runs wait for, and how many are done and left."""
    shared = sum(job.reuses for job in plan.jobs)
    blocked = [job for job in plan.blocked if not job.cell.stage]
    to_run = len(plan.jobs) - plan.num_done - len(blocked)
    _say(
        console,
        f"{plan.suite.spec.suite}, profile {plan.suite.profile}, {num_text(to_run, 'run')} to do, "
        f"{plan.num_done} done",
    )
    for line in tree_lines(plan):
        _say(console, line)
    _print_stages(console, plan)
    _print_blocked(console, plan)
    _say(
        console,
        f"{num_text(plan.num_done, 'run')} done, {to_run} to run"
        + (f", {len(blocked)} blocked" if blocked else "")
        + (f", {shared} of them with weights that another run trains" if shared else "")
        + f"; {sum(job.steps for job in plan.left)} training steps",
    )


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def tree_lines(plan: Plan) -> list[str]:
    """Return the tree of what cells share; parts that divide nothing stand on one level."""
    lines: list[str] = []
    for node in sharing_tree(plan.jobs):
        lines += _node_lines(node, "")
    return lines


def _node_lines(node: Node, indent: str) -> list[str]:
    cells = num_text(node.num_cells, "cell")
    runs = f", {num_text(len(node.jobs), 'run')}" if len(node.jobs) != node.num_cells else ""
    lines = [f"{indent}{node.part}: {node.what} [{cells}{runs}]"]
    while len(node.children) == 1:
        node = node.children[0]
        lines.append(f"{indent}{node.part}: {node.what}")
    for child in node.children:
        lines += _node_lines(child, f"{indent}  ")
    if not node.children:
        lines += [f"{indent}  - {leaf}" for leaf in _leaves(node.jobs)]
    return lines


def _leaves(jobs: Iterable[Job]) -> list[str]:
    """Return a line for each cell: name, id, and the state of each seed."""
    cells: dict[str, list[Job]] = {}
    for job in jobs:
        cells.setdefault(job.cell.cell_id, []).append(job)
    lines = []
    for key, of in cells.items():
        states: dict[str, list[str]] = {}
        for job in of:
            state = job.state + (", reuses another's training" if job.reuses else "")
            states.setdefault(state, []).append(str(job.seed))
        text = "; ".join(
            f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)} {state}"
            for state, seeds in states.items()
        )
        name = "" if of[0].state == "blocked" else f" ({key})"
        lines.append(f"{of[0].cell.name}{name}: {text}")
    return lines


def _print_stages(console: Console, plan: Plan) -> None:
    """Print the pretraining stages: what is left of each, and which cells begin with it."""
    cells = {job.cell.cell_id: job.cell for job in plan.stages}
    for key, stage in cells.items():
        users = [c.name for c in (*cells.values(), *plan.cells) if c.starts_from == key]
        states = [f"seed {j.seed} {j.state}" for j in plan.stages if j.cell.cell_id == key]
        _say(
            console,
            f"{stage.name} ({key}): {stage.settings.train.steps} steps, {', '.join(states)}; "
            f"{len(users)} begin with it: {'; '.join(users)}",
        )


def _print_blocked(console: Console, plan: Plan) -> None:
    """Print what is missing, each thing once, with the number of cells that wait for it."""
    waiting: dict[str, set[str]] = {}
    for job in plan.jobs:
        for problem in job.blocked:
            waiting.setdefault(problem, set()).add(job.cell.name)
    for problem, names in waiting.items():
        _say(console, f"blocked, {num_text(len(names), 'cell')}: {problem}")


def print_costs(
    console: Console,
    plan: Plan,
    store: Store,
    costs: PlanCosts,
    gpus: Sequence[str],
    utilisation: float,
) -> None:
    """Print the forwards of what is left, the time here, and GPU-hours where GPUs are asked for."""
    sizes = fw.Sizes(costs.sizes)
    cells = {job.cell.cell_id: job.cell for job in plan.stages}
    jobs = [job for job in (*plan.stages, *plan.jobs) if job.state != "done"]
    whole, schedule = plan.grouped(jobs), None
    if plan.left and not plan.blocked:
        schedule = make_schedule(plan, store, Machine(costs.device, costs.cores, costs.gpus))
    groups = whole if schedule is None else list(schedule.groups)
    _print_forwards(console, jobs, groups, cells, store, sizes)
    if schedule is not None and costs.overheads is not None:
        _print_forecast(console, schedule, store, costs)
    if gpus:
        times: dict[str, GpuTime] = {}
        for gpu in gpus:
            parts = {k: PartTimes.of(w, GPUS[gpu], utilisation) for k, w in costs.works.items()}
            times[gpu] = gpu_time(whole, cells, store.root, sizes, parts)
        least = "" if sizes.is_whole else ", at least"
        title = f"GPU-hours of what is left, products at {utilisation:.0%} of the peak{least}"
        _print_gpus(console, title, plan, whole, times, costs)
        cached = fw.cache_bytes(whole, store.root, sizes, costs.works)
        if cached:
            _say(console, f"features kept on disk{least}: {cached / _GIB:.1f} GiB")
    for note in [*costs.notes, *sizes.notes]:
        _say(console, f"  note: {note}")


def _print_forwards(
    console: Console,
    jobs: Sequence[Job],
    groups: Sequence[Group],
    stages: dict[str, Cell],
    store: Store,
    sizes: fw.Sizes,
) -> None:
    without = fw.alone([job for job in jobs if not job.cell.stage], stages, sizes)
    with_it = fw.shared(groups, store.root, sizes)
    numbers = ("without sharing", "with", "saved")
    table = text_table("frozen work that is left", *numbers, right=numbers)
    for name, a, b in (
        ("image encoder, images", without.images, with_it.images),
        ("SAM mixer, regions", without.regions, with_it.regions),
    ):
        saved = f"{100 * (1 - b / a):.1f} %" if a and sizes.is_whole else "-"
        least = "" if sizes.is_whole else ">= "
        table.add_row(name, f"{least}{a:,.0f}", f"{least}{b:,.0f}", saved)
    console.print(table)


def _print_forecast(
    console: Console, schedule: Schedule, store: Store, costs: PlanCosts
) -> TimeForecast | None:
    forecast = forecast_time(schedule, store, costs)
    if forecast is None:
        return None
    workers = min(schedule.limit, len(schedule.groups))
    _say(
        console,
        f"predicted here: about {in_words(forecast.total_s)} for "
        f"{num_text(sum(len(group.jobs) for group in schedule.groups), 'run')} = "
        f"{in_words(forecast.prepare_s)} preparing + {in_words(forecast.run_s)} training and "
        f"captioning + {in_words(forecast.rest_s)} starting, scoring, mirroring; "
        f"{num_text(len(schedule.groups), 'group')} on "
        f"{num_text(workers, 'worker')} x {num_text(schedule.threads, 'thread')} "
        f"({costs.device}); "
        f"{forecast.memory_mib / 1024:.1f} GiB of memory; "
        f"{forecast.cache_bytes / 2**20:.0f} MiB of features to be kept",
    )
    if forecast.cpu_share < _BUSY:
        quiet = in_words(forecast.total_s * forecast.cpu_share)
        _say(
            console,
            f"  other programs were at work: a worker got {forecast.cpu_share:.0%} of its core "
            f"while this was measured; on a quiet machine expect about {quiet} (delete "
            f"{store.root / 'probes.json'} to measure again)",
        )
    return forecast


def _print_gpus(
    console: Console,
    title: str,
    plan: Plan,
    groups: Sequence[Group],
    times: Mapping[str, GpuTime],
    costs: PlanCosts,
) -> None:
    """Print GPU-hours of every cell and of the suite, alone and as they will run."""
    numbers = [head for gpu in times for head in (f"{gpu.upper()} alone", "shared")] + ["GiB"]
    table = text_table("cell, one seed", *numbers, right=numbers, title=title)
    stages = {job.cell.cell_id: job.cell for job in plan.stages}
    for key, cell in [*stages.items(), *((cell.cell_id, cell) for cell in plan.cells)]:
        if any(key not in time.shared for time in times.values()):
            continue
        row = []
        for time in times.values():
            own = time.alone.get(key)
            row.append(f"{own / _HOUR:,.1f}" if own else "")
            row.append(f"{time.shared[key] / _HOUR:,.1f}")
        job = next(j for g in groups for j in g.jobs if j.cell.cell_id == key)
        table.add_row(cell.name, *row, f"{peak_gib([job], costs.works):.1f}")
    total = []
    for time in times.values():
        total.append(f"{time.total_alone / _HOUR:,.0f}")
        total.append(f"{time.total_shared / _HOUR:,.0f}")
    most = max((peak_gib(group.jobs, costs.works) for group in groups), default=0.0)
    table.add_row("all cells and seeds", *total, f"{most:.1f}")
    console.print(table)
    small = [
        f"{g.upper()} ({GPUS[g].memory_gib:g} GiB)" for g in times if GPUS[g].memory_gib < most
    ]
    if small:
        _say(console, f"  note: a group needs {most:.1f} GiB, more than {', '.join(small)} has")

"""What a lockstep batch saves: twelve trials four at a time, against the same trials one by one.

OMP_WAIT_POLICY=PASSIVE python -m pytest tests/bench/test_sweep_batches.py -m bench -s

Both ways share one store of frozen features a sweep, so what is compared is starting, preparing and
scoring once for four trials, and reading each batch once for four cells.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SWEEP = ROOT / "ablations" / "sweeps" / "lr_depth.yaml"
PAIRS = int(os.environ.get("SCA_BENCH_PAIRS", "1"))
MOST_RATIO = 0.85

TRIALS_ONLY = """
import ctypes, json, os, resource, sys
from rich.console import Console
from sca_bench.engine.launch.launcher import Launcher
from sca_bench.engine.sweep.optuna_study import default_storage
from sca_bench.engine.sweep.sweeper import Sweeper
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.sweep import load_sweep

def main():
    child = os.fork()
    if child:
        ctypes.CDLL(None).prctl(36, 1)  # adopt the worker server when the sweep's process ends
        os.waitpid(child, 0)
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime}))
        return
    store = Store(sys.argv[2])
    run_plan = lambda plan, pruner: Launcher(
        plan, store, "bench", Console(file=open(os.devnull, "w")), None, pruner
    ).run()
    sweep = load_sweep(sys.argv[1])
    sweeper = Sweeper(sweep, store, default_storage(store.root), run_plan, lambda text: None)
    for batch in sweeper.batches():
        pass
    print(json.dumps({"trials": [[t.params, t.values] for t in sweeper.trials]}), flush=True)
    os._exit(0)

if __name__ == "__main__":
    main()
"""


def run(tmp_path, name, batch):
    content = yaml.safe_load(SWEEP.read_text(encoding="utf-8"))
    content |= {"batch": batch, "sampler": {"name": "RandomSampler"}}  # asks the same either way
    path, script = tmp_path / f"{name}.yaml", tmp_path / "trials_only.py"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    script.write_text(TRIALS_ONLY, encoding="utf-8")
    command = [sys.executable, str(script), str(path), str(tmp_path / name)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found = {}
    for line in done.stdout.splitlines():
        found |= json.loads(line)
    return found


@pytest.mark.bench
def test_lockstep_against_one_by_one(tmp_path):
    ratios = []
    for pair in range(PAIRS):
        together = run(tmp_path, f"together-{pair}", 4)
        alone = run(tmp_path, f"alone-{pair}", 1)
        assert len(alone["trials"]) == 12
        assert together["trials"] == alone["trials"]
        ratios.append(together["cpu_s"] / alone["cpu_s"])
        print(f"\nlockstep {together['cpu_s']:.0f} CPU s, one by one {alone['cpu_s']:.0f} CPU s")
    print(f"ratios: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    assert median(ratios) <= MOST_RATIO

"""Suites and sweeps that no one means: refused with the number, before any cell is made."""

import os
import time

import pytest

from sca_bench.errors import InputError
from sca_bench.study.suite.suite import load_suite
from sca_bench.study.suite.sweep import load_sweep

SUITE = "suite: s\nquestion: q\nbase: {variant: sca}\n"
SWEEP = (
    "sweep: s\nquestion: q\nspace: {train.learning_rate: %s}\n"
    "objectives: [{metric: cider_d, direction: maximize}]\ntrials: 4\n"
)


def _many(count, line):
    return "".join(line.replace("%", str(number)) for number in range(1, count + 1))


STEPS = f"axes: {{train.steps: [{', '.join(map(str, range(1, 1500)))}]}}\n"
TEXTS = {
    "a file of 10 MB": (SUITE + "x: " + "y" * 10**7, "holds 9.5 MiB; .* may hold 1 MiB"),
    "aliases": (
        SUITE + "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n"
                  for a, b in zip("abcdefg", "bcdefgh", strict=True)),
        r"more than 20,000 values in one file",
    ),
    "a file of keys": (
        SUITE.replace("variant: sca", _many(25_000, "k%: 1, ")), "more than 20,000 values"),
    "an alias to itself": (SUITE + "axes: &a {x: *a}\n", r"axes.x: is an alias of what it stands"),
    "merged with itself": (SUITE + "x: &x {<<: *x}\n", r"x.<<: is an alias of what it stands in"),
    "depth": (SUITE + "x: " + "[" * 100_000, "more than 50 levels"),
    "a product": (
        SUITE + "axes: {" + ", ".join(
            f"{key}: [{', '.join(map(str, range(1, 101)))}]"
            for key in ("mixer.num_layers", "train.steps", "mixer.mlp_dim", "train.batch_size",
                        "mixer.num_query_tokens")) + "}\n",
        "axes: 100 x 100 x 100 x 100 x 100 values make 10,000,000,000 cells; a suite has 2,000",
    ),
    "own cells": (
        SUITE + STEPS + "cells:\n" + _many(502, "  - {name: c%, set: {}}\n"),
        "cells: 2,001 cells in all; a suite has 2,000 at most",
    ),
    "rules": (
        SUITE + STEPS + "adjust:\n" + _many(1_000, "- {when: {train.steps: %}, set: {}}\n"),
        "adjust: 1,000 rules for 1,499 cells; give fewer; cells times rules are 200,000 at most",
    ),
    "exceptions": (
        SUITE + STEPS + "unless:\n" + _many(1_000, "- {train.steps: %}\n"),
        "unless: 1,000 rules for 1,499 cells",
    ),
    "as many faults": (
        SUITE + f"metrics: [{', '.join(map(str, range(19_000)))}]\n", "metrics.0: 0 is wrong"),
    "a number as seeds": (SUITE + "seeds: 1000000\n", "seeds: 1000000 is wrong; expected a list"),
    "digits": (SUITE + f"seeds: [{'9' * 10_000}]\n", "seeds.0: a number of 10000 digits"),
    "no such date": (SUITE + "axes: {train.steps: [2023-02-30]}\n", "'2023-02-30' is wrong"),
    "code": (SUITE + "x: !!python/object/apply:os.system ['touch x']\n", "YAML without tags"),
    "bytes": (SUITE.encode() + b"x: \xff\n", "line 4: byte 0xFF is not UTF-8"),
    "UTF-16": (SUITE.encode("utf-16"), "line 1: byte 0xFF is not UTF-8"),
    "NUL": (SUITE + "x: \0\n", "not YAML"),
    "a name like a flag": (SUITE.replace("suite: s", "suite: -x"), "suite: '-x' is wrong"),
    "a name for no file": (
        SWEEP.replace(": s", f": {'s' * 191}", 1) % "{low: 1, high: 2}", "sweep: 's+' is wrong"),
    "trials": (SWEEP.replace("4", "100001") % "{low: 1e-5, high: 1e-3}", "trials: 100001 is wrong"),
    "a batch": (SWEEP % "{low: 1e-5, high: 1e-3}" + "batch: 1001\n", "batch: 1001 is wrong"),
    "endless": (SWEEP % "{low: -.inf, high: .inf, step: 1}", "give finite numbers"),
    "far apart": (SWEEP % "{low: -1e308, high: 1e308}", "give finite numbers"),
    "small steps": (SWEEP % "{low: 1, high: 1e308, step: 1e-300}", "plus steps of 1e-300"),
    "no number": (SWEEP % "{low: 1, high: 2, step: .nan}", "give finite numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_it_is_refused_at_once_in_one_line(tmp_path, name):
    text, line = TEXTS[name]
    path = tmp_path / "x.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    is_sweep = isinstance(text, str) and text.startswith("sweep")
    began = time.process_time()
    with pytest.raises(InputError, match=rf"x\.yaml: .*{line}") as raised:
        (load_sweep if is_sweep else load_suite)(path)
    assert time.process_time() - began < 5  # seconds where the machine is slow; below one here
    assert len(str(raised.value)) < 2200


def test_flags_have_the_same_limits(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(SUITE)
    for value, line in {
        "&a [*a]": "train.steps.0: is an alias",
        "[" * 10**4: "more than 50 levels",
        "[" + "1," * 30_000 + "]": "more than 20,000 values",
        "9" * 10_000: "a number of 10000 digits",
        "\x1b[31m": r"'\\x1b\[31m' is not a YAML value",
        "x" * 10**5: "expected a whole number",
    }.items():
        with pytest.raises(InputError, match=rf"--set: .*{line}") as raised:
            load_suite(path, overrides=[f"train.steps={value}"])
        assert len(str(raised.value)) < 2200
    path.write_text(SWEEP % "{low: 1e-5, high: 1e-3}")
    with pytest.raises(InputError, match=r"--trials: 1,000,000; a sweep has 100,000 at most"):
        load_sweep(path, trials=10**6)


def test_what_is_no_file_is_no_suite(tmp_path):
    path = tmp_path / "x.yaml"
    os.mkfifo(path)
    for load in (load_suite, load_sweep):
        with pytest.raises(InputError, match=r"x\.yaml: is no regular file \(a named pipe\)"):
            load(path)

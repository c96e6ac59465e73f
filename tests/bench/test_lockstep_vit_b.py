"""What sharing frozen parts and other savings bring at the published size, on one CPU thread.

OMP_NUM_THREADS=1 python -m pytest tests/bench/test_lockstep_vit_b.py -m bench -s

Everything is compared within one process, in turns; the least CPU seconds of each count. A whole
run writes `docs/performance.md` and takes about ten minutes of an idle core. With
SCA_BENCH_QUICK=1 the shapes are tiny and nothing is held to a bar.
"""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from before import in_turns
from performance_page import write_page
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from vit_b_cells import (
    CPU,
    DEPTHS,
    NEW_TOKENS,
    QUICK,
    REGIONS,
    Cells,
    Cost,
    alternate,
    rows_of,
)

from sca_bench.captioner import Decoding
from sca_bench.engine.worker.cell_group import autocast
from sca_bench.models.mixer import Attention
from sca_bench.models.sam import vit

pytestmark = pytest.mark.bench
LARGEST = str(DEPTHS[-1])
SECOND = str(DEPTHS[1])
LOCKSTEP, WITH_ENCODER_CACHE, BATCHED_BEAMS, MEMORY = 0.6, 0.42, 0.4, 1.3
OWN_STEP, LIMIT = 0.8, 2.0
"""The bars: each a ratio that must not be exceeded."""


@pytest.fixture(autouse=True, scope="module")
def by_hand():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cells(by_hand):
    return Cells.build(DEPTHS)


@pytest.fixture(scope="module")
def features(cells):
    return cells.features()


@pytest.fixture(scope="module")
def results():
    """What the tests found, for the page; written when all of them have passed through."""
    return {}


def within(results, name, value, bar):
    results.setdefault("bars", []).append((name, value, bar))
    print(f"\n{name}: {value:.3f} (bar {bar})", end="")
    assert QUICK or value <= bar


def test_training(cells, results, tmp_path):
    bank = {"train": cells.encoder_cache(tmp_path / "cache")}
    groups = {f"solo {m.key}": cells.group(m.key) for m in cells.members}
    groups |= {"lockstep": cells.group(), "lockstep, encoder cache": cells.group(banks=bank)}
    cells.step(groups["lockstep"])  # whatever happens at the first step only is not counted
    found = alternate({n: lambda g=g: cells.step(g) for n, g in groups.items()}, repeats=2)
    results["training"] = found
    print("".join(f"\n{name}: {cost.cpu_s:.2f} CPU s" for name, cost in found.items()), end="")
    solo = sum(found[f"solo {m.key}"].cpu_s for m in cells.members)
    within(results, "lockstep / solo", found["lockstep"].cpu_s / solo, LOCKSTEP)
    cached = found["lockstep, encoder cache"].cpu_s / solo
    within(results, "lockstep with encoder cache / solo", cached, WITH_ENCODER_CACHE)


def test_an_own_step_against_the_code_before(results, tmp_path):
    """The deepest cell's own part of a step, by this code and by that before it, in turns."""
    found = in_turns(tmp_path, ("mixer", "own step"))
    if found is None:
        pytest.skip("git does not know the commit to compare with")
    results["before"] = found
    for piece in ("mixer", "own step"):
        (before, made_before), (now, made) = found["before", piece], found["now", piece]
        print(f"\n{piece}: before {before.cpu_s:.2f}, now {now.cpu_s:.2f} CPU s", end="")
        assert made == pytest.approx(made_before, rel=1e-4)
    before, now = (found[label, "own step"][0].cpu_s for label in ("before", "now"))
    within(results, "own step: now / before", now / before, OWN_STEP)


def test_generation(cells, features, results):
    captioner = cells.members[-1].captioner.eval()
    parts = {
        "one at a time": [rows_of(features, [row]) for row in range(REGIONS)],
        f"{REGIONS} together": [features],
        f"{2 * REGIONS} together": [rows_of(features, [*range(REGIONS)] * 2)],
    }
    made = {}

    def run(beams, label):
        generated = [
            captioner.generate_ids(f, ["caption"] * len(f.ious_NM), Decoding(beams, NEW_TOKENS))
            for f in parts[label]
        ]
        made[beams, label] = torch.cat([g.ids_NL for g in generated])

    found = alternate({(b, n): lambda b=b, n=n: run(b, n) for b in (1, 3) for n in parts}, 2)
    per_region = {
        key: Cost(*(seconds / len(made[key]) for seconds in cost)) for key, cost in found.items()
    }
    for (beams, label), cost in per_region.items():
        print(f"\n{beams} beams, {label}: {cost.cpu_s:.3f} CPU s a region", end="")
        assert torch.equal(made[beams, label][:REGIONS], made[beams, "one at a time"])
    results["generation"] = per_region
    together = f"{2 * REGIONS} together"
    ratio = per_region[3, together].cpu_s / per_region[3, "one at a time"].cpu_s
    within(results, f"3 beams, {together} / one at a time", ratio, BATCHED_BEAMS)


def measured_apart(*depths):
    script = Path(__file__).with_name("vit_b_cells.py")
    found = subprocess.run(
        [sys.executable, str(script), *map(str, depths)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout.splitlines()[-1])


def test_memory(results):
    alone, group = measured_apart(DEPTHS[-1]), measured_apart(*DEPTHS)
    results["memory"] = {"alone": alone, "group": group}
    print(f"\n{results['memory']}", end="")
    ratio = group["peak_gib"] / alone["peak_gib"]
    within(results, "peak memory of the group / of its largest cell alone", ratio, MEMORY)


# --- savings one by one ---------------------------------------------------------------------------


@pytest.fixture
def compare(results):
    """Return a function that runs with and without a saving; both return what must agree."""

    def run(name, with_it, without_it, repeats=2):
        seen = {}

        def keep(label, work):
            seen[label] = work().float()

        found = alternate(
            {"with": lambda: keep("with", with_it), "without": lambda: keep("without", without_it)},
            repeats,
        )
        one, other = seen["with"], seen["without"]
        largest = other.abs().max().item()
        off = 0.0 if torch.equal(one, other) else (one - other).abs().max().item() / largest
        results.setdefault("savings", []).append((name, found["with"], found["without"], off))
        ratio = found["with"].cpu_s / found["without"].cpu_s
        print(f"\n{name}: with / without {ratio:.2f}, largest difference {off:.1e}", end="")
        return off

    return run


@contextlib.contextmanager
def changed(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def explicit_attention(self, q_NTI, k_NTI, v_NTI):
    q, k, v = (self._split(x) for x in (q_NTI, k_NTI, v_NTI))
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)
    return self.out_proj((weights @ v).transpose(1, 2).flatten(2))


def one_step(cells, key, features):
    """Return the gradient of a cell's queries after one forward and backward pass."""
    member = next(m for m in cells.members if m.key == key)
    member.captioner.train()
    tasks, decoder = ["caption"] * REGIONS, member.captioner.text_decoder
    decoder.eval()  # no dropout, so that both ways must agree
    tokens = decoder.tokenize(cells.batch.captions, 18)
    prefix = member.captioner.prefix(member.captioner.query_outputs(features), tasks)
    decoder.loss(prefix, tokens, 0.1).backward()
    weight = member.captioner.caption_query_tokens.tokens.weight
    gradient = weight.grad
    member.captioner.zero_grad()
    return gradient


def test_encoder_savings(cells, compare):
    sam, pixels = cells.parts.sam, cells.batch.pixel_values_B3HW
    encode = torch.no_grad()(lambda: sam.encode_images(pixels))

    def whole():
        with changed(vit, "BIAS_ELEMENTS_CPU", 2**40):
            return encode()

    def bf16():
        with autocast(CPU, "bf16"):
            return encode()

    assert compare("encoder: position bias in pieces", encode, whole) == 0
    assert compare("encoder: bf16", bf16, encode) < 0.1


def test_mixer_savings(cells, features, compare):
    sam = cells.parts.sam
    prompts = sam.encode_prompts(cells.batch.prompt_boxes())
    index, embeddings = cells.batch.image_index(), cells.embeddings

    def mix(grad=False):
        with torch.set_grad_enabled(grad):  # SAM's parameters are frozen either way
            return sam.mix(embeddings, index, prompts)[0].detach()

    def explicit(work):
        with changed(Attention, "forward", explicit_attention):
            return work()

    def repeated():
        each = torch.arange(REGIONS)
        with torch.no_grad():
            return sam.mix(embeddings.expand(REGIONS, -1, -1, -1), each, prompts)[0]

    assert compare("SAM mixer: region by region", mix, lambda: mix(grad=True), 3) < 1e-4
    assert compare("SAM mixer: unmixed image read once per image", mix, repeated, 3) == 0
    assert compare("SAM mixer: SDPA", mix, lambda: explicit(mix), 3) < 1e-4
    step = lambda: one_step(cells, SECOND, features)  # noqa: E731

    def bf16():
        with autocast(CPU, "bf16"):
            return one_step(cells, SECOND, features)

    assert compare("train step: SDPA in the text mixer", step, lambda: explicit(step)) < 1e-3
    assert compare("train step: bf16", bf16, step) < 0.5


def test_decoder_savings(cells, compare):
    decoder = cells.parts.text_decoder.eval()
    tokens = decoder.tokenize(cells.batch.captions, 18)
    prefix = torch.randn(REGIONS, 14, decoder.width, generator=torch.Generator().manual_seed(1))

    def gradient(loss):
        leaf = prefix.clone().requires_grad_()
        loss(leaf).backward()
        return leaf.grad

    def all_logits(leaf):
        logits = decoder.language_model(
            inputs_embeds=torch.cat(
                [leaf, decoder.language_model.get_input_embeddings()(tokens.ids_NT)], 1
            ),
            use_cache=False,
        ).logits
        wanted = torch.cat([tokens.labels_NT.new_full(leaf.shape[:2], -100), tokens.labels_NT], 1)
        return F.cross_entropy(
            logits[:, :-1].flatten(0, 1), wanted[:, 1:].flatten(), label_smoothing=0.1
        )

    needed = lambda: gradient(lambda leaf: decoder.loss(leaf, tokens, 0.1))  # noqa: E731
    assert compare("text decoder: needed logits only", needed, lambda: gradient(all_logits)) < 1e-3


def test_optimiser_savings(cells, compare):
    shapes = [p.shape for p in cells.members[-1].captioner.trainable_parameters().values()]
    generator = torch.Generator().manual_seed(2)
    start = [torch.randn(s, generator=generator) for s in shapes]
    gradients = [torch.randn(s, generator=generator) for s in shapes]

    def updates(fused):
        parameters = [torch.nn.Parameter(x.clone()) for x in start]
        optimiser = torch.optim.AdamW(parameters, lr=1e-3, fused=fused)
        for _ in range(5):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimiser.step()
        return torch.cat([p.detach().flatten() for p in parameters])

    compare("five AdamW updates: fused (not used)", lambda: updates(True), lambda: updates(False))


# --- the arithmetic limit -------------------------------------------------------------------------


def measured_rate():
    """Return the operations a second of a large matrix product on this core, now."""
    side = 512 if QUICK else 4096
    square = torch.randn(side, side)
    return 2 * side**3 / alternate({"gemm": lambda: square @ square}, 5)["gemm"].cpu_s


@contextlib.contextmanager
def counting():
    """Count operations; the counter knows what a CPU's fused attention consists of, not itself."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def test_distance_to_the_arithmetic_limit(cells, results):
    rate = measured_rate()
    group = cells.group()
    with counting() as counter:
        batch = group.with_features(cells.batch, "train")
        shared = counter.get_total_flops()
        for member in group.members:
            group._step(member, batch, cells.wrappers[member.key])
    total = counter.get_total_flops()
    limit = total / rate
    steps = results.get("training") or alternate({"lockstep": lambda: cells.step(group)}, 2)
    measured = steps["lockstep"].cpu_s
    results["limit"] = {
        "gflop_per_s": rate / 1e9,
        "shared_gflop": shared / 1e9,
        "own_gflop": (total - shared) / 1e9,
        "limit_s": limit,
        "measured_s": measured,
    }
    print(f"\nlimit {limit:.2f} s, measured {measured:.2f} s", end="")
    within(results, "lockstep / arithmetic", measured / limit, LIMIT)


def test_page(results):
    """Write the page, where everything before was run and the shapes are the real ones."""
    if QUICK or not results.keys() >= {"training", "generation", "memory", "savings", "limit"}:
        pytest.skip("the page is written by a whole run at full size only")
    write_page(results, DEPTHS, REGIONS)

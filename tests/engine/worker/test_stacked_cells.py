"""Cells stepped as one (`train.stacked`): each is as it is alone, up to rounding, and fails alone.

Dropout is on: each draws what it would draw alone.
"""

import dataclasses

import pytest
import torch
from helpers.stacking import TinyCells, distance
from safetensors.torch import load_file

from sca_bench.engine.worker import hooks
from sca_bench.engine.worker.cell_group import CellGroup
from sca_bench.models.sca import ScaCaptioner
from sca_bench.study.runs.store import Store, checkpoint_path
from sca_bench.variants import SCA_PARTS, all_variants

pytestmark = pytest.mark.usefixtures("training")

DESIGNS = [
    name
    for name, spec in all_variants().items()
    if spec.trains == "gradient" and spec.parts == SCA_PARTS
]
SEEDS = [(0, {}), (1, {}), (2, {})]
RATES = [
    (0, {}),
    (0, {"train.learning_rate": 0.0003, "train.clip_norm": 0.1}),
    (0, {"train.learning_rate": 0.002, "train.weight_decay": 0.1, "train.betas": [0.8, 0.99]}),
]
MOST = 1e-3
"""Of the norm of the weights, after 100 steps: the promise."""
_SHARED = {}


@pytest.fixture
def cells_of(tiny_decoder):
    """Return a function: variant and changes -> what cells of it share, made once."""

    def build(variant="sca", **changes):
        key = variant, str(changes)
        if key not in _SHARED:
            with_it = {"text_decoder.weights": str(tiny_decoder), **changes}
            _SHARED[key] = TinyCells(variant, with_it)
        return _SHARED[key]

    return build


def test_after_100_steps_each_is_where_it_is_alone(cells_of):
    """Of three seeds, each with another rate; tests/bench/test_stacked_speed.py does more."""
    shared, cells = cells_of(), [(seed, rate) for seed, (_, rate) in enumerate(RATES)]
    stack = shared.group(*cells).train(100)
    assert stack.cell_group.notes == []
    for place, cell in enumerate(cells):
        alone = shared.group(cell, stacked=False).train(100).weights()
        off = distance(stack.weights(place), alone)
        print(f"{cell}: {off:.1e}")
        assert off <= MOST
        assert distance(alone, shared.group(cell).weights()) > 20 * MOST  # it went somewhere
    assert distance(stack.weights(0), stack.weights(1)) > 20 * MOST


HALF = ("sca", "sca_sam_query", "sca_roi_align")
"""Designs that are tried in half precision: with few tokens in their mixers, many, and none."""


@pytest.mark.parametrize(
    ("variant", "precision", "most"),
    [*((name, "fp32", 1e-4) for name in DESIGNS), *((name, "bf16", 2e-2) for name in HALF)],
)
def test_every_design_steps_as_it_does_alone(cells_of, variant, precision, most):
    shared = cells_of(variant, **{"train.precision": precision, "train.as_published": ["loss"]})
    cells = [SEEDS[1], RATES[1]]
    stack = shared.group(*cells)
    alone = [shared.group(cell, stacked=False) for cell in cells]
    for _ in range(2):
        together = torch.stack(list(stack.step().values()))
        single = torch.stack([next(iter(one.step().values())) for one in alone])
        assert torch.allclose(together, single, rtol=most)
    assert stack.cell_group.notes == []
    for place, one in enumerate(alone):
        off = distance(stack.weights(place), one.weights())
        print(f"{variant} {precision}: {off:.1e}")
        assert off <= most


def test_a_cell_does_not_notice_who_else_is_there(cells_of):
    shared = cells_of()
    pair, more = shared.group(*SEEDS[:2]), shared.group(SEEDS[2], *RATES[1:], *SEEDS[:2])
    for group in (pair, more):
        group.train(6)
    for place in (0, 1):
        assert distance(pair.weights(place), more.weights(place + 3)) < 1e-5
    draws = [m.rng.state["cpu"] for m in (*pair.members, *more.members[3:])]
    assert torch.equal(draws[0], draws[2])
    assert torch.equal(draws[1], draws[3])
    assert not torch.equal(draws[0], draws[1])


def test_a_cell_by_itself_and_cells_of_other_shapes_step_as_in_lockstep(cells_of):
    shared = cells_of()
    deep = (0, {"mixer.num_layers": 2})
    group, calls = shared.group(SEEDS[0], deep, SEEDS[1]), []
    for member in group.members:
        inner = member.captioner.loss
        member.captioner.loss = lambda batch, inner=inner, key=member.key: (
            calls.append(key) or inner(batch)
        )
    group.train(3)
    assert calls == [group.members[1].key] * 3
    alone = shared.group(deep, stacked=False).train(3)
    other, one = group.weights(1), alone.weights()
    assert all(torch.equal(other[name], one[name]) for name in one)


def test_a_cell_whose_loss_is_not_finite_leaves_and_the_others_do_not_notice(cells_of):
    shared = cells_of()
    quiet, group = shared.group(*SEEDS), shared.group(*SEEDS)
    for group_ in (quiet, group):
        group_.train(2)
    with torch.no_grad():
        group.members[1].captioner.projection.bias[0] = float("nan")
    for group_ in (quiet, group):
        group_.train(3)
    assert group.members[1].error.startswith("loss is nan at step 3, learning rate 0.001")
    assert [member.error for member in group.members[::2]] == ["", ""]
    assert group.cell_group.notes == []
    for place in (0, 2):
        assert distance(group.weights(place), quiet.weights(place)) < 1e-5


def test_a_cell_that_is_not_looked_at_spoils_no_other(cells_of, monkeypatch):
    """As on a GPU, where losses are read at the log's steps only."""
    shared = cells_of()
    quiet, group = shared.group(*SEEDS), shared.group(*SEEDS)
    monkeypatch.setattr(CellGroup, "_look", lambda self, member: None)
    with torch.no_grad():
        group.members[1].captioner.projection.bias[0] = float("nan")
    for group_ in (quiet, group):
        group_.train(3)
    assert not group.weights(1)["projection.bias"].isfinite().any()
    for place in (0, 2):
        assert distance(group.weights(place), quiet.weights(place)) < 1e-5


def test_what_fails_together_is_tried_alone(cells_of, monkeypatch, capsys):
    """Memory for one at a time, for instance: nobody fails, and the note says so."""
    shared = cells_of()
    quiet, group = shared.group(*SEEDS, stacked=False), shared.group(*SEEDS)
    stacked, calls = ScaCaptioner.stacked_losses, []

    def starved(self, cells, batch, streams):
        calls.append(len(cells))
        stacked(self, cells, batch, streams)
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(ScaCaptioner, "stacked_losses", starved)
    for group_ in (quiet, group):
        group_.train(3)
    assert calls == [3]
    assert [member.error for member in group.members] == [""] * 3
    (note,) = group.cell_group.notes
    said = "3 cells were not stepped as one (OutOfMemoryError: no memory left), but each by itself"
    assert note == said
    assert "no memory left" in capsys.readouterr().err
    for place in range(3):  # what the failed step drew was put back
        one, other = group.weights(place), quiet.weights(place)
        assert all(torch.equal(one[name], other[name]) for name in other)


def test_one_that_fails_by_itself_fails_alone(cells_of, monkeypatch):
    shared = cells_of()
    group, step = shared.group(*SEEDS), CellGroup._update

    def full(member, *rest):
        if member is group.members[2]:
            raise torch.OutOfMemoryError("no memory left")
        step(member, *rest)

    monkeypatch.setattr(CellGroup, "_update", staticmethod(full))
    losses = group.step()
    assert list(losses) == [member.key for member in group.members[:2]]
    assert [m.error for m in group.members] == ["", "", "OutOfMemoryError: no memory left"]
    assert list(group.step()) == list(losses)
    assert group.cell_group.notes == []


def test_a_decoder_that_draws_for_all_at_once_is_not_stacked(cells_of, monkeypatch):
    shared = cells_of()
    group = shared.group(*SEEDS)
    hidden = type(shared.parts.text_decoder)._hidden
    monkeypatch.setattr(
        type(shared.parts.text_decoder),
        "_hidden",
        lambda self, *given: hidden(self, *given) + 0 * torch.rand(()),
    )
    group.train(2)
    (note,) = group.cell_group.notes
    assert "(something beside dropout draws random numbers, for all cells at once)" in note


def test_a_step_is_shared_by_its_cells_in_time(cells_of):
    group = cells_of().group(*SEEDS).train(2)
    clocks = [member.clock for member in group.members]
    assert {len(clock.seconds()) for clock in clocks} == {2}
    assert all(clock.total_s > 0 for clock in clocks)
    assert max(c.total_s for c in clocks) < 1.5 * min(c.total_s for c in clocks)
    assert len({round(member.cpu_s, 3) for member in group.members}) <= 2


def test_a_captioner_that_only_says_that_it_can_is_refused(cells_of, monkeypatch):
    shared = cells_of()
    monkeypatch.delattr(ScaCaptioner, "stacked_losses")
    with pytest.raises(TypeError, match="ScaCaptioner says `stacks`, but has no stacked_losses"):
        shared.group(SEEDS[0])
    assert shared.group(SEEDS[0], stacked=False)


# --- whole runs -----------------------------------------------------------------------------------

STACKED = {"train.stacked": True, "train.steps": 6, "train.val_every": 6}


def seeds_of(job):
    """Return a job of the same cell with three seeds, which share their data order."""
    (cell,) = job.cells
    return dataclasses.replace(
        job, cells=[dataclasses.replace(cell, seed=seed) for seed in (3, 4, 5)]
    )


def trained(job):
    store = Store(job.runs_dir)
    folders = [store.run_dir(c.cell_id, c.seed) for c in job.cells]
    return [load_file(folder / "trainable.safetensors") for folder in folders]


def test_seeds_are_resumed_and_recorded(group_job, run_group, tmp_path, monkeypatch):
    kept = {"runtime.cache_dir": str(tmp_path / "features")}
    changes = {**STACKED, **kept, "train.order_seed": 1}
    straight = seeds_of(group_job(changes, runs=tmp_path / "straight"))
    for cell in straight.cells:
        Store(straight.runs_dir).run_dir(cell.cell_id, cell.seed).mkdir(parents=True, exist_ok=True)
    assert not run_group(straight).failed
    after = hooks.LogHook.after_train_iter

    def die(self, runner, batch_idx, **rest):
        after(self, runner, batch_idx, **rest)
        if batch_idx == 4:
            raise KeyboardInterrupt

    broken = seeds_of(group_job(changes, runs=tmp_path / "broken"))
    store = Store(broken.runs_dir)
    folders = [store.run_dir(cell.cell_id, cell.seed) for cell in broken.cells]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(hooks.LogHook, "after_train_iter", die)
        with pytest.raises(KeyboardInterrupt):
            run_group(broken)
    assert all(checkpoint_path(folder, 4).exists() for folder in folders)
    resumed = seeds_of(group_job(changes, runs=tmp_path / "broken"))
    assert not run_group(resumed).failed
    for one, other in zip(trained(broken), trained(straight), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)
    keys = [cell.key for cell in broken.cells]
    for place, cell in enumerate(broken.cells):
        record = store.record(cell.cell_id, cell.seed)
        assert record.provenance["resumed_at_step"] == 4
        assert record.provenance["machine"]["stacked"] == 3
        assert record.provenance["stacked_with"] == [k for k in keys if k != keys[place]]
        assert record.settings["train"]["stacked"] is True


def test_a_record_says_nothing_of_stacks_where_none_was_asked_for(group_job, run_group):
    job = group_job({"train.steps": 2})
    assert not run_group(job).failed
    record = Store(job.runs_dir).record(job.cells[0].cell_id, 0)
    assert "stacked" not in record.provenance["machine"]
    assert "stacked_with" not in record.provenance

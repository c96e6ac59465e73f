"""The make-believe device itself: it refuses what CUDA refuses, and sees what CUDA waits for."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from device.cuda_functions import CUDA
from device.ghost import Ghost, MixedDevices, ghost_cuda
from device.journal import BLOCKING, EVENT, PAGEABLE, PINNED, READ

pytestmark = pytest.mark.usefixtures("ghost")


@pytest.fixture
def there():
    """Six numbers on the device."""
    return torch.arange(6.0).to("cuda").view(2, 3)


def test_a_tensor_says_that_it_lies_on_the_device(there):
    assert isinstance(there, Ghost)
    assert there.device == CUDA == torch.zeros(1, device="cuda").device
    assert there.is_cuda
    assert torch.cuda.is_available()
    for made in (there.clone(), there + 1, there[0], torch.zeros_like(there), there.new_zeros(2)):
        assert made.device == CUDA
    assert not isinstance(there.cpu(), Ghost)
    assert there.cpu().sum().item() == 15
    with pytest.raises(TypeError, match="convert cuda:0"):
        there.numpy()


MIXES = {
    "sum": lambda there, here: there + here,
    "product": lambda there, here: here @ there.T,
    "concatenation": lambda there, here: torch.cat([there, here]),
    "choice": lambda there, here: torch.where(there > 0, there, here),
    "in place": lambda there, here: there.mul_(here),
    "here": lambda there, here: here.add_(there),
    "number here": lambda there, here: torch.tensor(1.0).add_(there[0, 0]),
    "embedding": lambda there, here: F.embedding(torch.tensor([1]), there),
    "selection": lambda there, here: there.index_select(0, torch.tensor([1])),
    "attention": lambda there, here: F.scaled_dot_product_attention(there, here, here),
    "module": lambda there, here: nn.Linear(3, 3)(there),
    "generator": lambda there, here: torch.rand(2, device="cuda", generator=torch.Generator()),
}


@pytest.mark.parametrize("mix", MIXES)
def test_a_mix_is_refused(mix, there):
    with pytest.raises(MixedDevices, match="cpu"):
        MIXES[mix](there, torch.ones(2, 3))


def test_numbers_and_indices_of_the_host_are_welcome(there, ghost):
    ghost.clear()
    assert (there * torch.tensor(2.0)).device == CUDA
    assert not ghost.waits
    assert there[:, torch.tensor([0, 2])].device == CUDA
    (entry,) = ghost.waits
    assert (entry.kind, entry.num_bytes) == (BLOCKING, 16)


READS = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x[0, 0]),
    "if": lambda x: bool((x > 0).any()),
    "list": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu", torch.float64),
    "copy": lambda x: torch.empty(2, 3).copy_(x),
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 1),
    "boolean index": lambda x: x[x > 1],
    "boolean index, written": lambda x: x.__setitem__(x > 1, 0.0),
    "masked_select": lambda x: x.masked_select(x > 1),
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, x),
    "repeats": lambda x: x[0].repeat_interleave(x[0].long()),
    "save": lambda x: torch.save({"x": [x]}, io.BytesIO()),
}


@pytest.mark.parametrize("read", READS)
def test_the_journal_sees_a_read(read, there, ghost):
    ghost.clear()
    READS[read](there)
    (entry, *more) = ghost.entries
    assert entry.kind == READ, str(ghost)
    assert more == []
    assert "test_ghost.py" in entry.where


SENDS = {
    "tensor": (lambda: torch.tensor([1, 2], device="cuda"), BLOCKING, 16),
    "new_tensor": (lambda: torch.zeros(1, device="cuda").new_tensor([1.0]), BLOCKING, 4),
    "to": (lambda: torch.ones(3).to("cuda"), BLOCKING, 12),
    "cuda": (lambda: torch.ones(3).cuda(), BLOCKING, 12),
    "as": (lambda: torch.ones(3).to(torch.zeros(1, device="cuda")), BLOCKING, 12),
    "type_as": (lambda: torch.ones(3).type_as(torch.zeros(1, device="cuda")), BLOCKING, 12),
    "copy": (lambda: torch.empty(3, device="cuda").copy_(torch.ones(3)), BLOCKING, 12),
    "pinned": (lambda: torch.ones(3).pin_memory().to("cuda"), BLOCKING, 12),
    "pageable": (lambda: torch.ones(3).to("cuda", non_blocking=True), PAGEABLE, 12),
    "right": (lambda: torch.ones(3).pin_memory().to("cuda", non_blocking=True), PINNED, 12),
}


@pytest.mark.parametrize("way", SENDS)
def test_the_journal_knows_a_copy_that_waits_from_one_that_does_not(way, ghost):
    send, kind, num_bytes = SENDS[way]
    assert send().device == CUDA
    (entry,) = ghost.entries
    assert (entry.kind, entry.num_bytes) == (kind, num_bytes)
    assert "test_ghost.py" in entry.where
    assert bool(ghost.waits) == (kind == BLOCKING)
    assert bool(ghost.pageable(0)) == (kind == PAGEABLE)
    assert not ghost.pageable()


def test_waiting_for_events_is_seen(ghost):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    end.record()
    assert not ghost.entries
    end.synchronize()
    torch.cuda.synchronize()
    assert [entry.kind for entry in ghost.waits] == [EVENT, EVENT]
    assert begin.elapsed_time(end) >= 0


def test_what_needs_no_content_does_not_wait(there, ghost):
    ghost.clear()
    ids = torch.zeros(2, 2, dtype=torch.long, device="cuda")
    x = there.softmax(-1).index_select(0, ids[0])
    x = torch.cat([x, F.layer_norm(x, (3,))]).argmax(-1).repeat_interleave(2, 0)
    F.embedding(ids, there).masked_fill(ids[..., None] == 0, 0.0)
    there[0, 1:] = 2.0
    there[ids[0]].cumsum(0)
    assert x.shape == (8,)
    assert not ghost.entries


def test_it_draws_from_a_generator_of_its_own():
    torch.manual_seed(3)
    here, there = torch.rand(4), torch.rand(4, device="cuda")
    torch.manual_seed(3)
    torch.rand(9, device="cuda")
    assert torch.equal(here, torch.rand(4))
    torch.manual_seed(3)
    kept = torch.cuda.get_rng_state()
    assert torch.equal(there.cpu(), torch.rand(4, device="cuda").cpu())
    dropped = F.dropout(torch.ones(64, device="cuda")).cpu()
    torch.cuda.set_rng_state(kept)
    assert torch.equal(there.cpu(), torch.rand(4, device="cuda").cpu())
    assert torch.equal(dropped, F.dropout(torch.ones(64, device="cuda")).cpu())


def network():
    torch.manual_seed(0)
    table = nn.Embedding(5, 8)
    head = nn.Linear(8, 5, bias=False)
    head.weight = table.weight  # one tensor in two modules
    norm = nn.BatchNorm1d(8)
    return nn.Sequential(table, nn.Flatten(0, 1), norm, nn.Linear(8, 8), nn.GELU(), head)


def trained(model, device, steps=3):
    ids = torch.tensor([[0, 1, 2], [3, 4, 0]]).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, fused=device == "cuda")
    for _ in range(steps):
        F.cross_entropy(model(ids), ids.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()
        optimiser.zero_grad()
    return {name: value.cpu() for name, value in model.state_dict().items()}


def test_a_module_moves_in_place_and_learns_as_on_the_cpu(ghost):
    here, model = trained(network(), "cpu"), network()
    weight = model[3].weight
    model.to("cuda")
    assert model[3].weight is weight
    assert model[0].weight is model[5].weight
    assert all(isinstance(p, nn.Parameter) and p.device == CUDA for p in model.parameters())
    assert all(buffer.device == CUDA for buffer in model.buffers())
    twin = copy.deepcopy(model)
    assert twin[3].weight is not weight
    assert twin[0].weight is twin[5].weight
    ghost.clear()
    torch.testing.assert_close(trained(model, "cuda"), here)
    assert len(ghost.waits) == 1 + len(here), ghost  # the ids, and the state at the end
    torch.testing.assert_close(trained(twin, "cuda"), here)


def test_what_is_saved_is_read_on_a_host(there):
    file = io.BytesIO()
    torch.save({"x": there, "more": [there[0]]}, file)
    file.seek(0)
    read = torch.load(file, map_location="cpu", weights_only=True)
    assert type(read["x"]) is torch.Tensor
    assert torch.equal(read["more"][0], there.cpu()[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_has_the_lists_of_cuda(there, dtype):
    with torch.autocast("cuda", dtype=dtype):
        assert torch.is_autocast_enabled("cuda")
        product = there @ there.T
        assert product.dtype == dtype
        assert F.linear(there, there).dtype == dtype
        for norm in (F.layer_norm(product, (2,)), product.softmax(-1), product.sum(), product**2):
            assert norm.dtype == torch.float32
        assert F.gelu(product).dtype == dtype
        assert there[0, :2].dot(product[0]).dtype == torch.float32  # the wider of two types
        with torch.autocast("cuda", enabled=False):
            assert (there @ there.T).dtype == torch.float32
    assert torch.ones(2, 2, dtype=dtype).softmax(-1).dtype == dtype


def test_what_is_computed_again_draws_what_it_drew(there):
    weights = [torch.ones(2, 3, device="cuda", requires_grad=True) for _ in range(2)]
    for weight, again in zip(weights, (False, True), strict=True):

        def forward(weight):
            return F.dropout(there * weight, 0.5).square().sum()

        torch.manual_seed(1)
        with torch.autocast("cuda"):
            loss = checkpoint(forward, weight, use_reentrant=False) if again else forward(weight)
        loss.backward()
    assert torch.equal(weights[0].grad.cpu(), weights[1].grad.cpu())
    assert weights[0].grad.cpu().any()


def test_causal_attention_with_dropout():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 5, 4) for _ in range(3))
    here = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    there = [x.to("cuda") for x in (q, k, v)]
    found = F.scaled_dot_product_attention(*there, is_causal=True)
    torch.testing.assert_close(found.cpu(), here)
    dropped = F.scaled_dot_product_attention(*there, dropout_p=0.5, is_causal=True)
    assert dropped.device == CUDA


def test_memory_is_counted_and_freed():
    before = torch.cuda.memory_allocated()
    large = torch.zeros(1000, device="cuda")
    view = large[10:]
    assert torch.cuda.memory_allocated() == before + 4000
    del large
    assert torch.cuda.memory_allocated() == before + 4000
    del view
    assert torch.cuda.memory_allocated() == before
    assert torch.cuda.max_memory_allocated() >= before + 4000


class Planted(nn.Module):
    """Three faults that no CPU shows: a tensor left behind, a read, a copy that blocks."""

    def __init__(self, fault):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.fault, self.offset = fault, torch.ones(4)

    def forward(self, x):
        if self.fault == "left behind":
            return (x * self.weight + self.offset).sum()
        if self.fault == "read" and x.max() > 100:
            return x.sum()
        if self.fault == "copy":
            x = x[torch.tensor([3, 2, 1, 0], device=x.device)]
        return (x * self.weight).sum()


@pytest.mark.parametrize("fault", ["", "left behind", "read", "copy"])
def test_a_planted_fault_is_found(fault, ghost):
    model, x = Planted(fault), torch.ones(4)
    model(x).backward()  # on the CPU there is none
    x, model = x.to("cuda"), Planted(fault).to("cuda")
    ghost.clear()
    if fault == "left behind":
        with pytest.raises(MixedDevices):
            model(x)
        return
    model(x).backward()
    kinds = {"": [], "read": [READ], "copy": [BLOCKING]}
    assert [entry.kind for entry in ghost.waits] == kinds[fault]
    assert all("forward" in entry.where for entry in ghost.waits), str(ghost)


def test_it_is_gone_afterwards():
    inner = torch.Tensor.to
    with ghost_cuda():
        pass
    assert torch.Tensor.to is inner


def test_a_context_of_another_device_holds():
    with torch.device("meta"):
        made = [torch.tensor([1.0]), torch.as_tensor([1.0]), torch.empty(1), torch.arange(3)]
    assert {one.device.type for one in made} == {"meta"}

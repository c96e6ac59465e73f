"""Forward passes under the true autocast of CUDA, on tensors that say they are on `cuda`.

Such tensors have shapes and types, and no content: what mixes types or devices fails as on a GPU,
what reads contents cannot run, and nothing goes backwards without a driver (`ghost.py` does). A
design is covered by being registered.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from device.cells import DESIGNS, VARIANTS, smallest
from sca_bench.engine.measure.counter import OpCounter
from sca_bench.engine.measure.cuda_rules import HALF
from sca_bench.engine.measure.flops import one_token
from sca_bench.engine.measure.step_memory import (
    bare_captioner,
    cast_frozen,
    features_of,
    give_contents_up,
    step_loss,
)

OTHERS = sorted(
    name for name, spec in VARIANTS.items() if name not in DESIGNS and spec.looks and spec.is_own
)


@pytest.fixture(autouse=True)
def _claims_cuda(monkeypatch):
    """Let autocast believe in a GPU; what it does is its own."""
    try:
        monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    except AttributeError:
        pytest.skip("this torch asks in another way whether there is a GPU")
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)


class OneType(TorchDispatchMode):
    """Refuses operands of several types where a GPU's kernels do; torch's shapes let them pass."""

    PICKY = ("mm", "addmm", "bmm", "baddbmm", "convolution", "_scaled_dot_product", "index_put")
    PICKY += ("index_add", "index_copy", "scatter", "addmv", "dot")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.partition("::")[2]
        if name.startswith(self.PICKY):
            tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            found = {x.dtype for x in tensors if x.is_floating_point()}
            if len(found) > 1:
                raise RuntimeError(f"{name} of several dtypes: {found}")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def precision(request):
    with (
        FakeTensorMode(),
        OneType(),
        torch.device("cuda"),
        torch.autocast("cuda", HALF[request.param]),
    ):
        yield request.param


@pytest.mark.parametrize("precision", ["fp16", "bf16"], indirect=True)
def test_types_that_do_not_fit_are_found(precision):
    x, w = torch.empty(2, 3), torch.empty(3, 3, dtype=HALF[precision])
    assert (x @ w).dtype == HALF[precision]
    with torch.autocast("cuda", enabled=False), pytest.raises(RuntimeError, match="dtype"):
        x @ w
    with pytest.raises(Exception, match="device"):
        x + torch.empty(2, 3, device="cpu")


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize(
    ("precision", "name"),
    [("bf16", "sca"), *(("fp16", name) for name in DESIGNS)],
    indirect=["precision"],
)
def test_a_step_and_a_token_of_a_design_mix_no_types(name, precision, tmp_path):
    with torch.device("cpu"):
        settings = smallest(name, tmp_path, {"train.precision": precision, "eval.num_beams": 3})
        captioner, bare = bare_captioner(settings)
    give_contents_up(captioner, "cuda")
    cast_frozen(captioner, precision)
    captioner.train()
    loss = step_loss(captioner, bare, {}, OpCounter())
    assert (loss.dtype, loss.device.type) == (torch.float32, "cuda")
    captioner.eval()
    with torch.no_grad():
        sam = captioner.region_encoder.sam
        embeddings = torch.empty(1, sam.dims.embed_dim, sam.dims.grid, sam.dims.grid)
        one_token(captioner, bare, features_of(captioner, embeddings, 4), OpCounter())


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize("precision", ["fp16"], indirect=True)
@pytest.mark.parametrize("name", OTHERS)
def test_what_can_be_computed_of_a_baseline_without_content_mixes_no_types(
    name, precision, tmp_path
):
    with torch.device("cpu"), unset_fake_temporarily():
        spec, settings = VARIANTS[name], smallest(name, tmp_path)
        parts = spec.load_parts(settings)
        captioner = spec.load()(settings, parts)
    if not isinstance(captioner, torch.nn.Module):
        pytest.skip("has no tensors of its own")
    give_contents_up(captioner, "cuda")
    try:
        made = compute(captioner)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        pytest.skip(f"looks at contents: {error}")
    if made is None:
        pytest.skip("nothing in it computes without looking at contents")
    assert made.device.type == "cuda"


def compute(captioner):
    """Run the parts of a baseline that can be run on tensors without content."""
    if hasattr(captioner, "grit"):
        grit = captioner.grit
        levels = grit.pyramid.pooled(grit.image_encoder(torch.empty(2, 3, 64, 96)))
        features = torch.empty(3, 4, levels[0].shape[1])
        visual = grit.text_decoder.visual_tokens(features)
        return grit.text_decoder.loss(visual, torch.ones(3, 5, dtype=torch.long), 0.1)
    if hasattr(captioner, "captioner"):
        model = captioner.captioner.architecture
        side = captioner.captioner.processor.size
        side = side.get("height") or side["shortest_edge"]
        ids = torch.ones(2, 4, dtype=torch.long)
        return F.softmax(model.logits(torch.empty(2, 3, side, side), ids, torch.ones_like(ids)), -1)
    if hasattr(captioner, "encode"):
        sam = captioner.encode.sam
        embeddings = sam.encode_images(torch.empty(1, 3, sam.dims.image_size, sam.dims.image_size))
        boxes = torch.empty(4, 4)
        features = captioner.encode.from_embeddings(
            embeddings,
            torch.zeros(4, dtype=torch.long),
            sam.encode_prompts(boxes),
            boxes_xyxy_input_N4=boxes,
        )
        return features.ious_NM
    return None

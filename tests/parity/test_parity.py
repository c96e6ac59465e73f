"""The main model against recorded outputs of the original, unmodified code.

`python -m pytest tests/parity --parity-dir DIR` checks every folder of DIR (or DIR itself).
"""

from __future__ import annotations

import json
import re

import pytest
import torch
from fixture_folders import PROMPTS, model_folders

from sca_bench.captioner import Decoding
from sca_bench.errors import InputError
from sca_bench.models.original_layout import load_original, original_name

TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}
FORWARD = ("loss", "logits", "iou_scores", "query_logits", "projected_query_logits", "pred_masks")
STEP = "boxes.loss_after_one_adamw_step"


def assert_close(actual, expected, what):
    expected = expected.reshape(actual.shape)
    torch.testing.assert_close(
        actual.detach(), expected, msg=lambda text: f"{what}: {text}", **TOLERANCE
    )


def test_there_is_something_to_check(parity_root):
    folders = model_folders(parity_root)
    assert any(problem is None for problem in folders.values()), (
        f"{parity_root} holds no folder of a supported class, found: "
        f"{[p or f.name for f, p in folders.items()]}"
    )


def test_folder_is_of_a_supported_class(unsupported, parity_root):
    if unsupported is None:
        assert all(problem is None for problem in model_folders(parity_root).values())
        return
    folder, problem = unsupported
    with pytest.raises(InputError, match=r"not supported|is not 'sca'|cannot be read"):
        load_original(folder, json.loads((folder / "meta.json").read_text()).get("original_class"))
    pytest.skip(problem)


def test_every_recorded_output_is_compared(recorded):
    fields = "|".join((*FORWARD, "gen_iou_scores", "sparse_embeddings", r"sequences_beam\d+"))
    known = re.compile(
        rf"({'|'.join(PROMPTS)})\.({fields})|{re.escape(STEP)}|grad\..+|grad_total_norm"
        r"|image_embeddings|image_positional_embeddings|dense_embeddings"
    )
    assert [name for name in recorded.outputs if not known.fullmatch(name)] == []
    assert "boxes.loss" in recorded.outputs


def test_image_embeddings_and_positions(recorded):
    sam, outputs = recorded.model.region_encoder.sam, recorded.outputs
    embeddings = sam.encode_images(recorded.inputs["pixel_values"])
    assert_close(embeddings, outputs["image_embeddings"], "image embeddings")
    positions = outputs["image_positional_embeddings"]
    assert_close(sam.image_pe().T, positions[:1], "positional embeddings")
    dense = sam.dense_prompt().expand_as(embeddings)
    assert_close(dense, outputs["dense_embeddings"], "dense embeddings")


def kinds_with(recorded, *fields):
    """Kinds of prompt for which one of the fields was recorded, at least one."""
    kinds = [k for k in PROMPTS if any(f"{k}.{field}" in recorded.outputs for field in fields)]
    assert kinds
    return kinds


def test_prompt_embeddings(recorded):
    for kind in kinds_with(recorded, "sparse_embeddings"):
        boxes, points, labels = (
            recorded.inputs[name].flatten(0, 1) if name else None for name in PROMPTS[kind]
        )
        actual = recorded.model.region_encoder.sam.encode_prompts(boxes, points, labels)
        expected = recorded.outputs[f"{kind}.sparse_embeddings"].flatten(0, 1)
        assert_close(actual, expected, kind)


def test_forward(recorded):
    outputs, model = recorded.outputs, recorded.model
    for kind in kinds_with(recorded, *FORWARD):
        features = recorded.features(model, kind, with_masks=True)
        query_outputs = model.query_outputs(features)
        prefix = model.prefix(query_outputs, recorded.tasks())
        tokens, mask = recorded.tokens()
        actual = {
            "iou_scores": features.ious_NM,
            "gen_iou_scores": features.ious_NM,
            "pred_masks": features.mask_logits_NMhw,
            "query_logits": query_outputs,
            "projected_query_logits": prefix,
            "logits": model.text_decoder.logits(prefix, tokens.ids_NT, mask),
            "loss": model.text_decoder.loss(prefix, tokens, recorded.label_smoothing),
        }
        for name, tensor in actual.items():
            if f"{kind}.{name}" in outputs:
                assert_close(tensor, outputs[f"{kind}.{name}"], f"{kind}.{name}")


def test_generated_ids(recorded):
    eos = recorded.config["text_config"]["eos_token_id"]
    # The recorded sequences begin with a start token, which counts as one of their maximum.
    max_new_tokens = recorded.meta["generate"]["max_length"] - 1
    for kind in PROMPTS:
        names = [n for n in recorded.outputs if n.startswith(f"{kind}.sequences_beam")]
        if kind == "boxes":
            assert len(names) >= 2, "greedy and beam ids of the boxes must be recorded"
        features = recorded.features(recorded.model, kind)
        for name in names:
            decoding = Decoding(int(name.rpartition("beam")[2]), max_new_tokens)
            actual = recorded.model.generate_ids(features, recorded.tasks(), decoding).ids_NL
            expected = recorded.outputs[name].flatten(0, 2)[:, 1:]
            width = max(actual.shape[1], expected.shape[1])
            rows = [
                torch.nn.functional.pad(ids, (0, width - ids.shape[1]), value=eos)
                for ids in (actual, expected)
            ]
            assert torch.equal(*rows), name


def test_gradients(recorded):
    model, outputs = recorded.fresh_model(), recorded.outputs
    trainable = {original_name(n): p for n, p in model.trainable_parameters().items()}
    assert set(trainable) == set(recorded.meta["trainable"])
    recorded.loss(model, "boxes").backward()
    recorded_names = [name for name in outputs if name.startswith("grad.")]
    assert recorded_names
    for name in recorded_names:
        assert_close(trainable[name.removeprefix("grad.")].grad, outputs[name], name)
    norm = torch.stack([p.grad.norm() for p in trainable.values()]).norm()
    assert_close(norm, outputs["grad_total_norm"], "total norm")


def test_loss_after_one_adamw_step(recorded):
    model = recorded.fresh_model()
    parameters = list(model.trainable_parameters().values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=1e-4, eps=1e-8)
    recorded.loss(model, "boxes").backward()
    optimizer.step()
    with torch.no_grad():
        assert_close(recorded.loss(model, "boxes"), recorded.outputs[STEP], STEP)

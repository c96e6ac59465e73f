"""Every model class against recorded outputs of the original, unmodified code.

`python -m pytest tests/parity --parity-dir DIR` checks every folder of DIR (or DIR itself).

The recordings are float32, and the mixers of untrained weights magnify its rounding: on logits of
size 12 our own float32 differs from our float64 by up to 1.1e-4, more or less with the number of
threads. So each recorded value has to lie within the plain tolerance of what our model gives in
float32 or in float64 (which alone comes to 0.81 of it on the nine recordings at hand), and these
two have to agree with each other.
"""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
import torch
from fixture_folders import PROMPTS, model_folders
from recorded import checkpoint
from safetensors.torch import load_file

from sca_bench.captioner import Decoding
from sca_bench.errors import InputError
from sca_bench.models.original.classes import CLASSES
from sca_bench.models.original.layout import load_original, original_names, save_original

TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}
FORWARD = ("loss", "logits", "iou_scores", "query_logits", "projected_query_logits", "pred_masks")
STEP = "boxes.loss_after_one_adamw_step"


def assert_close(actual, expected, what):
    expected = expected.reshape(actual.shape)
    torch.testing.assert_close(
        actual.detach(), expected, msg=lambda text: f"{what}: {text}", **TOLERANCE
    )


def assert_recorded(single, double, expected, what):
    """Compare a recorded result with ours, in float32 and in float64."""
    single, double = single.detach().double(), double.detach().double()
    expected = expected.reshape(double.shape).double()

    def named(text):
        return f"{what}: {text}"

    torch.testing.assert_close(single, double, atol=5e-4, rtol=5e-4, msg=named)
    nearer = torch.where((single - expected).abs() < (double - expected).abs(), single, double)
    torch.testing.assert_close(nearer, expected, msg=named, **TOLERANCE)


def test_there_is_something_to_check(parity_root):
    folders = model_folders(parity_root)
    if not folders and (parity_root / "meta.json").is_file():
        pytest.skip(f"{parity_root} records something else than a model")
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
        load_original(folder, json.loads((folder / "meta.json").read_text())["original_class"])
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


def forward(recorded, kind):
    model = recorded.model
    features = recorded.features(model, kind, with_masks=True)
    outputs = model.query_outputs(features)
    prefix = model.prefix(outputs, recorded.tasks())
    tokens, mask = recorded.tokens(outputs.shape[1])
    return {
        "iou_scores": features.ious_NM,
        "gen_iou_scores": features.ious_NM,
        "pred_masks": features.mask_logits_NMhw,
        "query_logits": outputs.flatten(0, 1),
        "projected_query_logits": prefix,
        "logits": model.text_decoder.logits(prefix, tokens.ids_NT, mask),
        "loss": model.text_decoder.loss(prefix, tokens, recorded.label_smoothing),
    }


def test_forward(recorded):
    doubled = recorded.doubled()
    for kind in kinds_with(recorded, *FORWARD):
        single, double = forward(recorded, kind), forward(doubled, kind)
        for name in single:
            what = f"{kind}.{name}"
            if what in recorded.outputs:
                assert_recorded(single[name], double[name], recorded.outputs[what], what)


def test_generated_ids(recorded):
    eos = recorded.config["text_config"]["eos_token_id"]
    # The recorded sequences begin with a start token, which counts as one of their maximum.
    max_new_tokens = recorded.meta["generate"]["max_length"] - 1
    for kind in PROMPTS:
        names = [n for n in recorded.outputs if n.startswith(f"{kind}.sequences_beam")]
        if kind == "boxes":
            assert len(names) >= 2, "greedy and beam ids of the boxes must be recorded"
        if not names:
            continue
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


def gradients(recorded):
    model = recorded.own_model()
    names = original_names(model, CLASSES[recorded.meta["original_class"]])
    trainable = {names[n]: p for n, p in model.trainable_parameters().items()}
    assert set(trainable) == set(recorded.meta["trainable"])
    recorded.loss(model, "boxes").backward()
    found = {f"grad.{name}": parameter.grad for name, parameter in trainable.items()}
    found["grad_total_norm"] = torch.stack([g.norm() for g in found.values()]).norm()
    return found


def test_gradients(recorded):
    names = [name for name in recorded.outputs if name.startswith("grad")]
    assert len(names) > 1
    single, double = gradients(recorded), gradients(recorded.doubled())
    for name in names:
        assert_recorded(single[name], double[name], recorded.outputs[name], name)


def loss_after_a_step(recorded):
    model = recorded.own_model()
    parameters = list(model.trainable_parameters().values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=1e-4, eps=1e-8)
    recorded.loss(model, "boxes").backward()
    optimizer.step()
    with torch.no_grad():
        return recorded.loss(model, "boxes")


def test_loss_after_one_adamw_step(recorded):
    single, double = loss_after_a_step(recorded), loss_after_a_step(recorded.doubled())
    assert_recorded(single, double, recorded.outputs[STEP], STEP)


def test_round_trip_is_bit_identical(recorded, tmp_path):
    save_original(recorded.model, tmp_path)
    source = checkpoint(recorded.folder)
    before, after = (load_file(folder / "model.safetensors") for folder in (source, tmp_path))
    assert before.keys() == after.keys()
    assert [n for n in before if not torch.equal(before[n], after[n])] == []
    again = load_original(tmp_path)  # the class is in the written configuration
    state = recorded.model.state_dict()
    assert state.keys() == again.state_dict().keys()
    assert all(torch.equal(state[name], t) for name, t in again.state_dict().items())


def test_what_the_original_could_not_run_is_one_clear_line(recorded):
    kinds = {name.partition(".")[0] for name in recorded.meta.get("not_runnable", {})}
    assert kinds <= {"points", "points2"}, "a prompt that is not checked here"
    for kind in kinds:
        features = recorded.features(recorded.model, kind)
        with pytest.raises(InputError, match="a point alone has no region"):
            recorded.model.query_outputs(features)


def test_as_intended_every_mask_candidate_has_a_head_or_there_is_one(recorded):
    """Without the published bugs no number of heads follows from the number of images."""
    path, name = checkpoint(recorded.folder), recorded.meta["original_class"]
    model = load_original(path, name, as_published=False)
    features = recorded.features(model, "boxes")
    outputs = model.query_outputs(features)
    candidates = features.ious_NM.shape[1]
    assert outputs.shape[1] == model.caption_query_tokens.heads(candidates)
    alone = dataclasses.replace(recorded, inputs={n: t[:1] for n, t in recorded.inputs.items()})
    of_one = model.query_outputs(alone.features(model, "boxes"))
    assert_close(of_one, outputs[: len(of_one)], "the first image alone")

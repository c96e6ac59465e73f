"""Checkpoints taken apart: what an import writes, and that a cell of it says the same."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from sca_bench.captioner import Decoding
from sca_bench.cli import main
from sca_bench.data.load import load_split
from sca_bench.digests import file_sha256
from sca_bench.engine import loaders
from sca_bench.engine.finished.import_weights import import_weights
from sca_bench.engine.worker.trained_weights import find_trained, start_weights
from sca_bench.errors import InputError, at
from sca_bench.models.build import build_sca
from sca_bench.models.designs.queries import MaskTokenQueries
from sca_bench.models.original.layout import LM_HEAD, load_original, save_original
from sca_bench.models.sam.sam import build_sam
from sca_bench.reading import read_jsonl
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import PREDICTIONS, Store

DECODING = Decoding(num_beams=1, max_new_tokens=6)
PARTS = ["import.json", "sam.safetensors", "settings.yaml", "text_decoder", "trainable.safetensors"]


def gpt2(vocab_size):
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = GPT2Config(
        vocab_size=vocab_size, n_positions=48, n_embd=16, n_layer=1, n_head=2, **ids
    )
    return GPT2LMHeadModel(config)


def llama(vocab_size):
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = LlamaConfig(
        vocab_size=vocab_size, num_attention_heads=2, max_position_embeddings=48, **sizes, **ids
    )
    return LlamaForCausalLM(config)


@pytest.fixture
def checkpoint(tmp_path, tiny_decoder, cell_settings):
    """Return a function that writes a small SCA checkpoint as the original does."""

    def build(language_model=gpt2, others=None, **mixer):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(tiny_decoder)
        torch.manual_seed(0)
        lm_dir = tmp_path / "lm"
        model = language_model(len(tokenizer))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(lm_dir)
        tokenizer.save_pretrained(lm_dir)
        changes = {
            "sam": {"size": "tiny", "weights": "embedded:sam_tiny"},
            "text_decoder": {"weights": str(lm_dir)},
            "mixer": {"num_heads": 4, "mlp_dim": 192, "init_std": 0.6} | mixer,
        }
        captioner = build_sca(cell_settings(changes | (others or {})))
        folder = tmp_path / "checkpoint"
        save_original(captioner, folder)
        return folder

    return build


def drop_head(folder):
    """The trap of a tied head: safetensors written by transformers lacks it."""
    tensors = load_file(folder / "model.safetensors")
    del tensors[LM_HEAD]
    save_file(tensors, folder / "model.safetensors")


def as_bin(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def as_shards(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    place = {n: f"pytorch_model-0000{i % 2 + 1}-of-00002.bin" for i, n in enumerate(names)}
    for file in set(place.values()):
        torch.save({n: tensors[n] for n in names if place[n] == file}, folder / file)
    index = {"metadata": {}, "weight_map": place}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


@pytest.fixture
def agrees(tmp_path, cell_settings, group_job, run_group):
    """Return a function that imports a checkpoint and compares a cell of it with the checkpoint:
    captions of a whole run with no step of its own, the ids behind them, and every tensor."""

    def check(folder):
        out = tmp_path / "imported"
        import_weights(folder, out)
        assert sorted(p.name for p in out.iterdir()) == PARTS
        fragment = yaml.safe_load((out / "settings.yaml").read_text())["base"]
        changes = {**fragment, "train.steps": 0, "eval.max_new_tokens": DECODING.max_new_tokens}
        # The run starts from another seed's new modules, so whatever is not loaded shows.
        job = group_job(changes, seed=3)
        assert not run_group(job).failed
        store, cell = Store(job.runs_dir), job.cells[0]
        path = store.run_dir(cell.cell_id, 3) / PREDICTIONS
        rows = {row["region_id"]: row for row in read_jsonl(path)}

        original = load_original(folder)
        settings = cell.settings
        original.select = settings.eval.select
        if isinstance(original.caption_query_tokens, MaskTokenQueries):
            # The published runs held one image a process, and a cell does what they did.
            original.caption_query_tokens.counts_images = False
        sets = {"captioned": load_split(settings.data.test)}
        dataset = loaders.make_dataset(
            sets, "captioned", cell.identity, image_size=96, seed=0, with_pixels=True
        )
        built = build_sca(settings)
        start_weights(built, settings)
        said = []
        for loaded in loaders.eval_loader(dataset, settings):
            batch = loaded.to("cpu")
            said += original.generate(batch, DECODING)
            ids = [
                m.generate_ids(m.frozen_features(batch), batch.region_tasks(), DECODING).ids_NL
                for m in (original, built)
            ]
            assert torch.equal(*ids)
        found = {p.region_id: p.caption for p in said}
        assert found == {k: row["caption"] for k, row in rows.items()}
        assert len(set(found.values())) > 1  # no constant answer
        for p in said:
            assert rows[p.region_id]["log_prob"] == pytest.approx(p.log_prob, abs=1e-4)
        state, expected = built.state_dict(), original.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[n], t) for n, t in expected.items())
        record = store.record(cell.cell_id, 3)
        assert record.inputs["start_from"] == file_sha256(out / "trainable.safetensors")
        return settings

    return check


@pytest.mark.parametrize(
    ("language_model", "change"),
    [(gpt2, drop_head), (gpt2, as_bin), (llama, as_shards), (llama, lambda folder: None)],
    ids=["gpt2-dropped_head", "gpt2-bin", "llama-shards", "llama-safetensors"],
)
def test_a_cell_says_what_the_checkpoint_says(checkpoint, agrees, language_model, change):
    folder = checkpoint(language_model)
    change(folder)
    assert agrees(folder).variant == "sca"


@pytest.mark.parametrize(
    ("variant", "num_task_tokens", "original_class", "as_published"),
    [
        ("sca_split_mixer", 2, "ScaMultitaskSplitMixerModel", False),
        ("sca_sam_query", 2, "ScaDirectDecodingV2Model", False),
        ("sca_sam_query", 2, "ScaDirectDecodingV2Model", True),
        ("sca_sam_query_v1", 0, "ScaDirectDecodingModel", False),
        ("sca_sam_query_v1", 0, "ScaDirectDecodingModel", True),
        ("sca_mask_heads", 2, "ScaMultitaskModel", False),
        ("sca_mask_heads", 2, "ScaMultitaskModel", True),
        ("sca_mask_heads", 0, "ScaModel", False),
        ("sca_mask_heads", 0, "ScaModel", True),
        ("sca_roi_align", 2, "ScaMultitaskROIPoolModel", False),
        ("sca_roi_align", 2, "ScaMultitaskROIPoolModel", True),
    ],
)
def test_so_does_a_cell_of_every_other_class(
    checkpoint, agrees, variant, num_task_tokens, original_class, as_published
):
    others = {"variant": variant, "prefix.num_task_tokens": num_task_tokens}
    if variant == "sca_roi_align":
        others["prefix.projection"] = "mlp"
    if variant.startswith("sca_sam_query"):
        others["eval.select"] = "first"
    mixer = {"as_published": True} if as_published else {}
    # Wide enough a start that regions get different captions.
    folder = checkpoint(others=others, **mixer, init_std=1.2 if "split" in variant else 0.6)
    named = json.loads((folder / "config.json").read_text())["architectures"]
    assert named == [original_class]
    settings = agrees(folder)
    assert settings.variant == variant
    assert settings.mixer.as_published == as_published


def test_several_heads_of_no_mask_are_not_chosen_among(checkpoint, agrees):
    folder = checkpoint(others={"eval.select": "first"}, num_caption_heads=2)
    assert agrees(folder).eval.select == "first"


def test_the_settings_are_those_of_the_checkpoint(checkpoint, tmp_path):
    import_weights(checkpoint(num_layers=3, num_query_tokens=5), tmp_path / "out")
    place = (tmp_path / "out").resolve()
    assert yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text()) == {
        "base": {
            "variant": "sca",
            "sam": {"size": "tiny", "weights": str(place / "sam.safetensors")},
            "mixer": {
                "num_layers": 3,
                "num_heads": 4,
                "mlp_dim": 192,
                "attention_downsample_rate": 2,
                "num_query_tokens": 5,
                "num_caption_heads": 1,
            },
            "prefix": {"num_task_tokens": 2, "projection": "linear"},
            "text_decoder": {"weights": str(place / "text_decoder")},
            "start_from": str(place / "trainable.safetensors"),
        }
    }


def test_the_card_says_what_was_read_and_written(checkpoint, tmp_path):
    folder, out = checkpoint(), tmp_path / "out"
    import_weights(folder, out)
    card = json.loads((out / "import.json").read_text())
    assert card["original_class"] == "ScaMultitaskV2Model"
    weights = card["origin"]["files"]["model.safetensors"]
    assert weights["sha256"] == file_sha256(folder / "model.safetensors")
    assert weights["bytes"] == (folder / "model.safetensors").stat().st_size
    written = {p.relative_to(out).as_posix(): p for p in out.rglob("*") if p.is_file()}
    assert {*card["files"], "import.json"} == set(written)
    assert all(f["sha256"] == file_sha256(written[n]) for n, f in card["files"].items())
    model = load_original(folder)
    trained = sum(t.numel() for t in model.trainable_state().values())
    assert card["parameters"]["trained"] == trained
    assert sum(card["parameters"].values()) == sum(p.numel() for p in model.parameters())


def test_a_second_import_changes_nothing_and_other_content_is_left_alone(checkpoint, tmp_path):
    folder, out = checkpoint(), tmp_path / "out"
    assert "written" in import_weights(folder, out)[0]
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert "imported before, unchanged" in import_weights(folder, out)[0]
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert not list(tmp_path.glob(".out*"))

    (out / "trainable.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match=r"trainable\.safetensors: has changed since it was writt"):
        import_weights(folder, out)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "note": 1}))
    with pytest.raises(InputError, match="was written from something else; name a new folder"):
        import_weights(folder, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"is not empty, and not ours: no import\.json in it"):
        import_weights(folder, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_a_checkpoint_without_a_tokenizer_says_so(checkpoint, tmp_path):
    folder = checkpoint()
    for path in folder.glob("*token*"):
        path.unlink()
    text = "\n".join(import_weights(folder, tmp_path / "out"))
    assert "came without a tokenizer; put the tokenizer files" in text


@pytest.mark.parametrize("layout", ["pth", "transformers"])
def test_sam_alone(tmp_path, capsys, layout):
    sam = build_sam("tiny_small", random_seed=5)
    source = tmp_path / "sam.pth"
    torch.save(sam.state_dict(), source)
    if layout == "transformers":
        from sca_bench.models.encoders.sam_vit import NAMES
        from sca_bench.models.sam.tensor_names import transformers_name

        source = tmp_path / "hf"
        source.mkdir()
        tensors = {transformers_name(n, NAMES): t.contiguous() for n, t in sam.state_dict().items()}
        save_file(tensors, source / "model.safetensors")
        dims = sam.dims
        embed = {"hidden_size": dims.embed_dim}
        vision = {
            "hidden_size": dims.encoder_width,
            "output_channels": dims.embed_dim,
            "num_hidden_layers": dims.encoder_depth,
            "num_attention_heads": dims.encoder_num_heads,
            "mlp_dim": dims.encoder_mlp_dim,
            "image_size": dims.image_size,
            "patch_size": dims.patch_size,
            "window_size": 0,
            "global_attn_indexes": list(dims.encoder_global_blocks),
        }
        decoder = {**embed, "num_attention_heads": 4, "mlp_dim": 192, "iou_head_hidden_dim": 96}
        config = {"model_type": "sam", "vision_config": vision, "prompt_encoder_config": embed}
        config["mask_decoder_config"] = decoder
        (source / "config.json").write_text(json.dumps(config))
    out = tmp_path / "out"
    assert main(["weights", "import", str(source), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "SAM tiny_small" in printed
    assert printed.endswith((out / "settings.yaml").read_text())
    stored, expected = load_file(out / "sam.safetensors"), sam.state_dict()
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[n], t) for n, t in expected.items())
    base = yaml.safe_load((out / "settings.yaml").read_text())["base"]
    build_sam(base["sam"]["size"], weights=base["sam"]["weights"])


def test_what_is_no_checkpoint_is_one_line(checkpoint, tmp_path):
    def complaint(source):
        with pytest.raises(InputError) as caught:
            import_weights(source, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    folder = checkpoint()
    assert "'gpt2' is neither 'sam'" in complaint(tmp_path / "lm")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "some.pth")
    assert "some.pth fits no sam.size; nearest is" in complaint(tmp_path / "some.pth")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["ScaZebra"]}))
    assert "ScaZebra" in complaint(folder)
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config))
    assert "architectures: None is not supported" in complaint(folder)
    (folder / "config.json").unlink()
    assert "config.json: cannot be read as JSON" in complaint(folder)


# --- start_from -------------------------------------------------------------------------------


def test_start_from_is_checked_by_name(checkpoint, tmp_path, cell_settings):
    import_weights(checkpoint(), tmp_path / "out")
    path = tmp_path / "out" / "trainable.safetensors"
    fragment = yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text())["base"]
    settings = cell_settings(fragment)
    captioner = build_sca(settings)
    fresh = {n: t.clone() for n, t in captioner.trainable_state().items()}
    stored = load_file(path)
    start_weights(captioner, settings)
    state = captioner.trainable_state()
    assert all(torch.equal(state[n], t) for n, t in stored.items())
    assert not all(torch.equal(fresh[n], t) for n, t in stored.items())

    name = "projection.weight"
    for changed, problem in (
        ({n: t for n, t in stored.items() if n != name}, f"{name}: is missing"),
        ({**stored, "projection.wait": stored[name].clone()}, "did you mean projection.weight"),
        ({**stored, name: stored[name][:1]}, r"has shape \(1, 96\), expected \(16, 96\)"),
    ):
        save_file(changed, path)
        with pytest.raises(InputError, match=problem):
            start_weights(captioner, settings)
    path.unlink()
    line = r"suite\.yaml: start_from: .* does not exist"
    with pytest.raises(InputError, match=line), at("suite.yaml"):
        start_weights(captioner, settings)


def test_a_decoder_may_begin_to_learn_where_only_the_mixer_did(checkpoint, tmp_path, cell_settings):
    import_weights(checkpoint(), tmp_path / "out")
    fragment = yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text())["base"]
    settings = cell_settings({**fragment, "text_decoder.trainable": True})
    captioner = build_sca(settings)
    decoder = {n: t.clone() for n, t in captioner.text_decoder.state_dict().items()}
    start_weights(captioner, settings)
    state = captioner.text_decoder.state_dict()
    assert all(torch.equal(state[n], t) for n, t in decoder.items())
    stored = load_file(tmp_path / "out" / "trainable.safetensors")
    assert torch.equal(captioner.projection.weight, stored["projection.weight"])


def test_a_variant_without_trained_tensors_refuses(cell_settings, tmp_path):
    settings = cell_settings({"start_from": str(tmp_path / "x.safetensors")})
    with pytest.raises(InputError, match="start_from: variant sca has no trained tensors"):
        start_weights(object(), settings)


# --- weights that a run reuses ----------------------------------------------------------------


def test_a_run_that_reuses_weights_finds_them(tmp_path):
    def folder(cell):
        path = tmp_path / "cells" / cell / "seed-0"
        path.mkdir(parents=True)
        return path

    first, second = folder("first"), folder("second")
    weights = first / "trainable.safetensors"
    save_file({"level": torch.zeros(1)}, weights)
    entry = {"stage": "training", "cell_id": "first", "seed": 0, "steps": 6}
    facts = {"cell_id": "second", "seed": 0, "status": "done", "variant": "sca", "revision": "1"}

    def record(*lineage):
        return RunRecord(**facts, settings={}, lineage=list(lineage))

    shared = record({**entry, "weights_sha256": file_sha256(weights)})
    assert find_trained(shared, second) == weights
    assert find_trained(record(), first) == weights
    with pytest.raises(InputError, match="this run has no trained tensors"):
        find_trained(record(), second)
    with pytest.raises(InputError, match=r"has changed since .*second"):
        find_trained(record({**entry, "weights_sha256": "0"}), second)
    weights.unlink()
    with pytest.raises(InputError, match=r"first.*missing: .*second.* reuses it"):
        find_trained(shared, second)

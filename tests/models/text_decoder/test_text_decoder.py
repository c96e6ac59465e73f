"""The text decoder: loading without silent traps, loss, and generation from a prefix."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, GPT2LMHeadModel
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from sca_bench.captioner import Decoding
from sca_bench.errors import InputError
from sca_bench.models.products import FastConv1D, FastLinear
from sca_bench.models.text_decoder.decoder import IGNORED, CaptionTokens
from sca_bench.models.text_decoder.loading import load_text_decoder
from sca_bench.models.text_decoder.search import Generated


@pytest.fixture
def decoder(any_lm_dir):
    return load_text_decoder(str(any_lm_dir))


def greedy_by_hand(decoder, prefix_PD, max_new_tokens):
    """One token at a time from full logits: no cache, no library loop."""
    ids, log_probs = [], []
    while len(ids) < max_new_tokens:
        logits = decoder.logits(prefix_PD[None], torch.tensor([ids], dtype=torch.long))[0, -1]
        ids.append(int(logits.argmax()))
        log_probs.append(float(logits.log_softmax(0)[ids[-1]]))
        if ids[-1] == decoder.eos_token_id:
            break
    return ids, sum(log_probs) / len(log_probs)


def test_tokenize_cuts_then_appends_the_end_token(decoder):
    tokens = decoder.tokenize(["a red ball on the table", "a"], max_tokens=3)
    vocabulary, end = decoder.tokenizer.get_vocab(), decoder.eos_token_id
    first = [vocabulary[word] for word in ("a", "red", "ball")]
    assert tokens.ids_NT.tolist() == [[*first, end], [vocabulary["a"], end, end, end]]
    assert tokens.labels_NT.tolist() == [
        [*first, end],
        [vocabulary["a"], end, IGNORED, IGNORED],
    ]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_equals_the_plain_formula(decoder, smoothing):
    tokens = decoder.tokenize(["a red ball", "the big blue box on the left"], max_tokens=6)
    prefix = torch.randn(2, 3, decoder.width, requires_grad=True)
    inputs = torch.cat(
        [prefix, decoder.language_model.get_input_embeddings()(tokens.ids_NT)], dim=1
    )
    logits = decoder.language_model(inputs_embeds=inputs).logits[:, 2:-1]
    log_probs = logits.log_softmax(-1)
    picked = log_probs.gather(-1, tokens.labels_NT.clamp(min=0)[..., None])[..., 0]
    per_token = -(1 - smoothing) * picked - smoothing * log_probs.mean(-1)
    expected = per_token[tokens.labels_NT != IGNORED].mean()
    actual = decoder.loss(prefix, tokens, smoothing)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    # As published: the first caption of image 2, the second of image 0, none of image 1.
    counts = (tokens.labels_NT != IGNORED).sum(1)
    assert counts.tolist() == [4, 7]
    means = per_token.masked_fill(tokens.labels_NT == IGNORED, 0).sum(1) / counts
    images = {"image_index_N": torch.tensor([2, 0]), "num_images": 3}
    found = decoder.loss(prefix, tokens, smoothing, **images)
    torch.testing.assert_close(found, means.mean(), atol=1e-5, rtol=1e-5)
    assert abs(found - actual) > 1e-3
    one = {"image_index_N": torch.tensor([0, 0]), "num_images": 1}
    torch.testing.assert_close(decoder.loss(prefix, tokens, smoothing, **one), expected)
    actual.backward()
    assert prefix.grad.abs().sum() > 0
    assert all(p.grad is None for p in decoder.parameters())


def peak_of_saved_tensors(action):
    """Bytes that autograd keeps for the backward pass of what `action` returns."""
    kept = []

    def keep(tensor):
        kept.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = action()
    return result, sum(kept)


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("dropout", [False, True])
def test_checkpointing_moves_no_number(decoder, trainable, dropout):
    decoder = copy.deepcopy(decoder).requires_grad_(trainable).train(dropout)
    tokens = decoder.tokenize(["a red ball", "the big blue box on the left"], max_tokens=6)
    start = torch.randn(2, 3, decoder.width)
    found = []
    for checkpoint in (False, True):
        torch.manual_seed(4)
        prefix = start.clone().requires_grad_()
        loss, kept = peak_of_saved_tensors(
            lambda prefix=prefix, on=checkpoint: decoder.loss(prefix, tokens, 0.1, checkpoint=on)
        )
        modes = [module.training for module in decoder.modules()]
        # Another cell that shares the decoder may set it otherwise before the backward pass.
        decoder.train(not dropout)
        decoder.zero_grad()
        loss.backward()
        decoder.train(dropout)
        gradients = [p.grad.clone() for p in decoder.parameters() if p.grad is not None]
        found.append((loss.detach(), prefix.grad, gradients, modes, kept))
    plain, again = found
    assert torch.equal(plain[0], again[0])
    assert torch.equal(plain[1], again[1])
    assert len(plain[2]) == len(again[2])
    assert bool(plain[2]) == trainable
    assert all(torch.equal(one, two) for one, two in zip(plain[2], again[2], strict=True))
    assert plain[3] == again[3] == [dropout] * len(plain[3])
    assert again[4] < 0.7 * plain[4]
    layers = [m for m in decoder.modules() if hasattr(m, "gradient_checkpointing")]
    assert not any(layer.gradient_checkpointing for layer in layers)


def test_padding_of_a_batch_changes_no_caption(decoder):
    prefix = torch.randn(2, 3, decoder.width)
    short = decoder.tokenize(["a ball"], 18)
    both = decoder.tokenize(["a ball", "the big blue box on the left table"], 18)
    alone = decoder.loss(prefix[:1], short)
    padded = CaptionTokens(both.ids_NT[:1], both.labels_NT[:1])
    torch.testing.assert_close(alone, decoder.loss(prefix[:1], padded))
    mask = (both.labels_NT != IGNORED).long()
    with_mask, without = (decoder.logits(prefix, both.ids_NT, m) for m in (mask, None))
    torch.testing.assert_close(with_mask[0, :4], without[0, :4], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prefix_length", [1, 2, 7])
def test_greedy_equals_a_hand_written_loop(decoder, prefix_length):
    prefix = torch.randn(8, prefix_length, decoder.width)
    generated = decoder.generate(prefix, Decoding(num_beams=1, max_new_tokens=19))
    for i in range(len(prefix)):
        ids, log_prob = greedy_by_hand(decoder, prefix[i], 19)
        length = int(generated.lengths_N[i])
        assert generated.ids_NL[i, :length].tolist() == ids
        assert set(generated.ids_NL[i, length:].tolist()) <= {decoder.eos_token_id}
        assert float(generated.log_prob_N[i]) == pytest.approx(log_prob, abs=1e-4)
    assert len(set(generated.lengths_N.tolist())) > 1  # the end token is really met


@pytest.mark.parametrize("prefix_length", [1, 4])
def test_beam_scores_are_the_librarys_and_a_batch_equals_its_singles(decoder, prefix_length):
    prefix = torch.randn(4, prefix_length, decoder.width)
    generated = decoder.generate(prefix, Decoding(num_beams=3, max_new_tokens=8))
    output = decoder.language_model.generate(
        inputs_embeds=prefix,
        generation_config=GenerationConfig(
            num_beams=3,
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=decoder.eos_token_id,
            pad_token_id=decoder.eos_token_id,
            output_scores=True,
            return_dict_in_generate=True,
        ),
    )
    torch.testing.assert_close(generated.log_prob_N, output.sequences_scores, atol=1e-4, rtol=1e-4)
    for i in range(4):
        single = decoder.generate(prefix[i : i + 1], Decoding(num_beams=3, max_new_tokens=8))
        length = int(single.lengths_N[0])
        assert length == int(generated.lengths_N[i])
        assert torch.equal(single.ids_NL[0, :length], generated.ids_NL[i, :length])


def test_checkpoints_generation_settings_are_not_obeyed(lm_dir, tmp_path):
    folder = tmp_path / "lm"
    shutil.copytree(lm_dir, folder)
    settings = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0, "max_length": 3}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    plain, odd = load_text_decoder(str(lm_dir)), load_text_decoder(str(folder))
    prefix = torch.randn(4, 3, plain.width)
    for num_beams in (1, 2):
        decoding = Decoding(num_beams=num_beams, max_new_tokens=9)
        assert torch.equal(
            plain.generate(prefix, decoding).ids_NL, odd.generate(prefix, decoding).ids_NL
        )


def test_decode_drops_the_end_token_and_padding(decoder):
    tokens = decoder.tokenize(["a red ball", "a"], 18)
    generated = Generated(tokens.ids_NT, torch.tensor([4, 2]), torch.zeros(2))
    assert decoder.decode(generated) == ["a red ball", "a"]


def test_a_directory_without_its_vocabulary_is_refused(lm_dir, tmp_path):
    folder = tmp_path / "lm"
    shutil.copytree(lm_dir, folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    with pytest.raises(InputError, match=r"knows only \d tokens|cannot be loaded"):
        load_text_decoder(str(folder))


def test_a_tokenizer_beyond_the_embedding_is_refused(lm_dir, tmp_path):
    folder = tmp_path / "lm"
    shutil.copytree(lm_dir, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["zebra"] = 99
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match="knows token id 99, but the model embeds ids 0 to 13"):
        load_text_decoder(str(folder))


def test_incomplete_weights_are_refused(lm_dir, tmp_path):
    folder = tmp_path / "lm"
    shutil.copytree(lm_dir, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    state = {k: v for k, v in model.state_dict().items() if "h.1.mlp.c_fc" not in k}
    model.save_pretrained(folder, state_dict=state)
    with pytest.raises(InputError, match=r"lacks .*h\.1\.mlp\.c_fc\.bias"):
        load_text_decoder(str(folder))


def test_a_head_that_is_more_than_linear_is_refused(lm_dir, monkeypatch):
    original = GPT2LMHeadModel.forward

    def scaled(self, *args, **kwargs):
        output = original(self, *args, **kwargs)
        output.logits = output.logits * 3
        return output

    monkeypatch.setattr(GPT2LMHeadModel, "forward", scaled)
    with pytest.raises(InputError, match="scales or caps its logits"):
        load_text_decoder(str(lm_dir))


def test_names_that_lead_nowhere():
    with pytest.raises(InputError, match="did you mean gpt2-large"):
        load_text_decoder("random:gpt2-larg")
    with pytest.raises(InputError, match="neither a directory nor a hub id"):
        load_text_decoder("./no/such/folder")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_text_decoder("no-such-owner/no-such-model")
    with pytest.raises(InputError, match="not embedded"):
        load_text_decoder("embedded:no_such_lm")


def test_an_untrained_decoder_has_no_tokenizer():
    with torch.device("meta"):
        decoder = load_text_decoder("random:gpt2")
    with pytest.raises(InputError, match="random:gpt2: tokenizer"):
        decoder.tokenize(["a"], 18)


def test_gpt2s_activation_is_fused_wherever_a_decoder_comes_from(any_lm_dir, decoder):
    """`gelu_new` is computed by torch in one pass; another activation stays what it is."""
    plain = AutoModelForCausalLM.from_pretrained(any_lm_dir, dtype=torch.float32).eval()
    before = [type(m) for m in plain.modules()]
    after = [type(m) for m in decoder.language_model.modules()]
    fused = [pair for pair in zip(before, after, strict=True) if pair[0] is not pair[1]]
    layers = {(torch.nn.Linear, FastLinear), (Conv1D, FastConv1D)}
    assert set(fused) <= {(NewGELUActivation, torch.nn.GELU), *layers}
    assert NewGELUActivation not in after
    assert ((NewGELUActivation, torch.nn.GELU) in fused) == (plain.config.model_type == "gpt2")
    assert decoder.language_model.state_dict().keys() == plain.state_dict().keys()
    ids = torch.arange(decoder.vocab_size)[None]
    with torch.no_grad():
        logits, again = plain(ids).logits, decoder.language_model(ids).logits
    torch.testing.assert_close(again, logits, atol=1e-5, rtol=1e-5)


def test_the_fused_activation_has_the_same_formula():
    values = torch.linspace(-10, 10, 100_001)
    fused = torch.nn.GELU(approximate="tanh")(values)
    assert (fused - NewGELUActivation()(values)).abs().max() < 1e-6

"""Captions decoded by transformers' own loop, as `TextDecoder.generate` once did: the reference."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from sca_bench.captioner import Decoding
from sca_bench.models.text_decoder.decoder import TextDecoder
from sca_bench.models.text_decoder.search import Generated


class GreedyLogProbs(LogitsProcessor):
    """Keeps the log-probability of the best word of every step; changes no score."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        values = scores.float()
        self.steps.append(values.amax(-1) - values.logsumexp(-1))
        return scores


@torch.no_grad()
def generate(decoder: TextDecoder, prefix_NPD: Tensor, decoding: Decoding) -> Generated:
    """Decode with the library; take the log-probability of a beam's caption from a second pass."""
    model, end = decoder.language_model, decoder.eos_token_id
    recorder = GreedyLogProbs()
    ids_NL = model.generate(
        inputs_embeds=prefix_NPD,
        attention_mask=torch.ones(prefix_NPD.shape[:2], dtype=torch.long),
        generation_config=GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            num_beams=decoding.num_beams,
            do_sample=False,
            length_penalty=1.0,
            early_stopping=False,
            eos_token_id=end,
            pad_token_id=end,
        ),
        logits_processor=LogitsProcessorList([recorder] if decoding.num_beams == 1 else []),
    )
    ends_NL = ids_NL == end
    generated_NL = ends_NL.long().cumsum(1) - ends_NL.long() == 0
    lengths_N = generated_NL.sum(1)
    if decoding.num_beams == 1:
        log_probs_NL = torch.stack(recorder.steps, dim=1)
    else:
        log_probs_NL = second_pass(decoder, prefix_NPD, ids_NL, generated_NL)
    total_N = log_probs_NL.masked_fill(~generated_NL, 0.0).sum(1)
    return Generated(ids_NL, lengths_N, total_N / lengths_N)


def second_pass(
    decoder: TextDecoder, prefix_NPD: Tensor, ids_NL: Tensor, wanted_NL: Tensor
) -> Tensor:
    """Return the log-probability (N, L) of each wanted id given those before it, 0 elsewhere."""
    model = decoder.language_model
    embedded_NLD = model.get_input_embeddings()(ids_NL[:, :-1])
    hidden_NXD = model.base_model(
        inputs_embeds=torch.cat([prefix_NPD, embedded_NLD.to(prefix_NPD.dtype)], dim=1),
        use_cache=False,
    ).last_hidden_state
    hidden_NLD = hidden_NXD[:, prefix_NPD.shape[1] - 1 :]
    scores_KV = model.get_output_embeddings()(hidden_NLD[wanted_NL]).float()
    chosen_K = scores_KV.gather(1, ids_NL[wanted_NL][:, None])[:, 0]
    log_probs_NL = chosen_K.new_zeros(ids_NL.shape)
    log_probs_NL[wanted_NL] = chosen_K - scores_KV.logsumexp(-1)
    return log_probs_NL

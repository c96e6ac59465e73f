"""What the server of workers imports before it forks: all that a worker would import by itself.

A worker of these tests computes for a tenth of a second; its imports take two. Nothing here may ask
for CUDA, else no child of the server could use it, so the question is answered beforehand.
"""

import importlib

import torch

MODULES = (
    "sca_bench.engine.worker.group_run",
    "sca_bench.models.build",
    "sca_bench.models.text_decoder.loading",
    "transformers.generation",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "tokenizers",
    "matplotlib.pyplot",
    "scipy.stats",
)

asked = torch.cuda.is_available
torch.cuda.is_available = lambda: False
for name in MODULES:
    importlib.import_module(name)
torch.cuda.is_available = asked

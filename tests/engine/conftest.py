"""A captioner that trains in a second: untrained SAM, a made-up GPT-2, rendered scenes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from sca_bench import scene_grammar
from sca_bench.engine.job import CellJob, GroupJob, new_attempt
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.fingerprint import Fingerprints
from sca_bench.study.suite.merge import merge, nest


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory):
    """A random GPT-2 of 16 channels with the grammar's words, saved as transformers saves it."""
    folder = tmp_path_factory.mktemp("decoder")
    words = ["<eos>", "<unk>", *scene_grammar.VOCABULARY]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = GPT2Config(
        vocab_size=len(words), n_positions=64, n_embd=16, n_layer=1, n_head=2, **ids
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def cell_settings(tiny_decoder):
    """Return a function that builds settings, with dotted changes."""

    def build(changes=None):
        nested = {
            "sam": {"size": "tiny", "weights": "random"},
            "text_decoder": {"weights": str(tiny_decoder)},
            "mixer": {"num_layers": 1, "num_heads": 4, "mlp_dim": 16, "dropout": 0.1},
            "prefix": {"num_task_tokens": 2},
            "data": {
                "train": {"dataset": "scenes", "num_images": 5, "first_seed": 0},
                "val": {"dataset": "scenes", "num_images": 2, "first_seed": 50},
                "test": {"dataset": "scenes", "num_images": 3, "first_seed": 100},
            },
            "train": {
                "steps": 6,
                "images_per_batch": 2,
                "learning_rate": 0.01,
                "warmup_steps": 2,
                "val_every": 3,
            },
            "eval": {"max_new_tokens": 4},
            "runtime": {"device": "cpu", "checkpoint_every": 2, "log_every": 1, "threads": 1},
        }
        for path, value in (changes or {}).items():
            nested = merge(nested, nest(path, value))
        return CellSettings.model_validate(nested)

    return build


@pytest.fixture
def group_job(tmp_path, cell_settings):
    """Return a function that makes the job of a group from changes, one per cell."""

    def build(*changes, runs=None, seed=0):
        cells = []
        for change in changes:
            settings = cell_settings(change)
            identity = CellIdentity(settings, Fingerprints().inputs(settings))
            key = identity.cell_key
            folder = Path(runs or tmp_path / "runs") / "cells" / key / f"seed-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            cells.append(CellJob(key, str(change), seed, identity))
        folder = str(runs or tmp_path / "runs")
        return GroupJob(folder, cells, "test", new_attempt("test"), 1, "cpu", "pytest")

    return build


@pytest.fixture
def suite_file(tmp_path, cell_settings):
    """Write a suite with two depths and the tiny decoder; return its path."""

    def write(name="demo", axes="{mixer.num_layers: [1, 2]}", seeds="[0]", changes=None, extra=""):
        base = cell_settings(changes).model_dump(mode="json", exclude_unset=True)
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            f"# A header.\nsuite: {name}\nquestion: Does it run?\nbase: {json.dumps(base)}\n"
            f"axes: {axes}\nseeds: {seeds}\nmetrics: [cider_d, exact_match, slots]\n{extra}",
            encoding="utf-8",
        )
        return path

    return write


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory):
    """A store of MLflow's without experiments, whose tables take seconds to make."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").get_experiment_by_name("none")
    return file


@pytest.fixture
def mlflow_server(mlflow_tables, tmp_path):
    """The address of a data base that is not the runs folder's own."""
    shutil.copy(mlflow_tables, tmp_path / "server.db")
    return f"sqlite:///{tmp_path}/server.db"

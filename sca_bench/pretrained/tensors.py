"""Files of tensors: the one place that loads them."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sca_bench.pretrained.torch_files import check_torch_file
from sca_bench.reading import open_regular

SAFETENSORS = ".safetensors"


class Unreadable(Exception):
    """A file cannot be read as tensors; the message says why, in one line."""


def load_tensors(path: Path) -> Any:
    """Load a `.safetensors` file, or a torch file with nothing but tensors and plain values in it.

    Nothing in it is executed, and nothing takes more memory than the file has bytes.

    Returns:
        What it holds, on the CPU: a mapping of names to tensors, or whatever else was saved.

    Raises:
        Unreadable: It is absent or damaged, holds more than that, or does not fit into memory.
        InputError: It is no regular file.
    """
    try:
        if path.suffix == SAFETENSORS:
            with open_regular(path):
                pass
            return load_file(path)
        check_torch_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how old its format is
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it is damaged, or holds more than tensors, which is never loaded"
        raise Unreadable(reason) from error
    except ValueError as error:
        raise Unreadable(_first_line(error)) from error
    except (OSError, MemoryError) as error:
        raise Unreadable(getattr(error, "strerror", None) or type(error).__name__) from error
    except Exception as error:  # a damaged file can raise anything
        if type(error).__module__.startswith("sca_bench."):
            raise
        raise Unreadable(_first_line(error)) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

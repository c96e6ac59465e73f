"""An image encoder from an ONNX file: any network that yields SAM's image embedding.

Shape legend: B images, C channels, h w rows and columns of the embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sca_bench.errors import InputError
from sca_bench.settings import EncoderSettings
from sca_bench.specs.sam_dims import SamDims

KEY = "encoder.path"


class OnnxImageEncoder:
    """Runs an ONNX image encoder on the CPU, one image at a time.

    One at a time because such files often declare a dynamic batch axis that only works for 1.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        image_size: int,
        embedding_shape: tuple[int, int, int],
    ) -> None:
        """Open the file.

        Args:
            path: The ONNX file; one input (B, 3, H, W) and one output.
            image_size: Side of the square model input, in pixels.
            embedding_shape: The (C, h, w) that the prompt encoder expects.

        Raises:
            InputError: onnxruntime is not installed; the file is absent, unreadable, or takes
                images of another size.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(
                None, "encoder.type", "onnx needs onnxruntime", "pip install 'sca-bench[onnx]'"
            ) from error
        if not Path(path).expanduser().is_file():
            raise InputError(None, KEY, f"{path} does not exist or is no file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(Path(path).expanduser()), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has no common base class for its errors
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(None, KEY, f"{path} cannot be read as ONNX ({reason})") from error
        self.path = path
        self._embedding_shape = embedding_shape
        declared = self._session.get_inputs()[0].shape
        sides = [side for side in declared[2:] if isinstance(side, int)]
        if len(declared) != 4 or any(side != image_size for side in sides):
            raise InputError(
                None, KEY, f"{path} takes {declared}, expected [B, 3, {image_size}, {image_size}]"
            )

    def __call__(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Return the embeddings (B, C, h, w), on the device and in the type of the images.

        Raises:
            InputError: The file's output has not the shape the prompt encoder expects.
        """
        name = self._session.get_inputs()[0].name
        rows = []
        for image_3HW in pixel_values_B3HW.float().cpu():
            embedding = torch.from_numpy(
                self._session.run(None, {name: image_3HW[None].numpy()})[0]
            )
            if embedding.shape != (1, *self._embedding_shape):
                raise InputError(
                    None,
                    KEY,
                    f"{self.path} yields {tuple(embedding.shape)},"
                    f" expected {(1, *self._embedding_shape)}",
                    "sam.size must name the SAM whose embedding the file imitates",
                )
            rows.append(embedding)
        return torch.cat(rows).to(pixel_values_B3HW)


def build(settings: EncoderSettings, dims: SamDims) -> OnnxImageEncoder:
    """Open the file that `encoder.path` names, in the place of the encoder of a SAM.

    Raises:
        InputError: It cannot be opened, or takes images of another size.
    """
    assert settings.path is not None  # an encoder that needs a path has one
    return OnnxImageEncoder(
        settings.path,
        image_size=dims.image_size,
        embedding_shape=(dims.embed_dim, dims.grid, dims.grid),
    )

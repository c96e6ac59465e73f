"""An image encoder from an ONNX file: any network that yields SAM's image embedding.

The file is looked through before anything loads it (`formats.onnx_files`), and runs in a process of
its own with limits on time and memory (`onnx_child`), one for all images.

Shape legend: B images, C channels, h w rows and columns of the embedding.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from sca_bench.errors import InputError
from sca_bench.formats.onnx_files import check_model
from sca_bench.models.sam import onnx_child
from sca_bench.settings import EncoderSettings
from sca_bench.specs.sam_dims import SamDims

KEY, LIMIT_S, LIMIT_GIB = "encoder.path", "encoder.onnx_limit_s", "encoder.onnx_limit_gib"
_LONGEST_LINE = 65_536
_START_S = 60.0
"""What the process may take to import its libraries, on top of the limit."""


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
        limit_s: float = 120.0,
        limit_gib: float = 16.0,
    ) -> None:
        """Open the file.

        Args:
            path: The ONNX file; one input (B, 3, H, W) and one output.
            image_size: Side of the square model input, in pixels.
            embedding_shape: The (C, h, w) that the prompt encoder expects.
            limit_s: Seconds that it may take to be loaded, and for one image.
            limit_gib: Address space of the process that runs it, GiB.

        Raises:
            InputError: onnxruntime is not installed; the file is absent, unreadable, asks for too
                much, or takes images of another size.
        """
        if find_spec("onnxruntime") is None:
            raise InputError(
                None, "encoder.type", "onnx needs onnxruntime", "pip install 'sca-bench[onnx]'"
            )
        file = Path(path).expanduser()
        if not file.exists():
            raise InputError(None, KEY, f"{path} does not exist or is no file")
        try:
            check_model(file)
        except InputError as error:
            named = f"{error.key}: " if error.key else ""
            raise InputError(None, KEY, f"{path} {named}{error.problem}", error.fix) from None
        except OSError as error:
            raise InputError(None, KEY, f"{path} cannot be read ({error.strerror})") from None
        self.path = path
        self._embedding_shape = embedding_shape
        self._limit_s, self._limit_gib = limit_s, limit_gib
        self._image_shape = [1, 3, image_size, image_size]
        self._threads = torch.get_num_threads()
        self._file = file.resolve()
        declared = self._start()
        sides = [side for side in declared[2:] if isinstance(side, int)]
        if len(declared) != 4 or any(side != image_size for side in sides):
            self._end()
            raise InputError(
                None, KEY, f"{path} takes {declared}, expected [B, 3, {image_size}, {image_size}]"
            )

    def __call__(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Return the embeddings (B, C, h, w), on the device and in the type of the images.

        Raises:
            InputError: The file's output has not the shape the prompt encoder expects; it takes
                longer or more memory than it may, or cannot be run.
        """
        if self._pid != os.getpid() or self._process.poll() is not None:
            self._start()  # this process was forked from the one that did, or an error ended it
        rows = []
        for image_3HW in pixel_values_B3HW.float().cpu():
            pixels = np.ascontiguousarray(image_3HW[None].numpy())
            answer, content = self._ask({"shape": list(pixels.shape)}, pixels.data)
            expected = [1, *self._embedding_shape]
            if answer["kind"] == onnx_child.REFUSED:
                raise InputError(
                    None,
                    KEY,
                    f"{self.path} yields {tuple(answer['shape'])}, expected {tuple(expected)}",
                    "sam.size must name the SAM whose embedding the file imitates",
                )
            found = np.frombuffer(content, np.dtype(answer["dtype"])).reshape(expected)
            rows.append(torch.from_numpy(found))
        return torch.cat(rows).to(pixel_values_B3HW)

    # --- the process --------------------------------------------------------------------------

    def _start(self) -> list[Any]:
        """Start the process and have it load the file; return the shape of its input."""
        program = str(Path(onnx_child.__file__))
        self._process = subprocess.Popen(
            [sys.executable, "-P", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._pid = os.getpid()
        self._finalizer = weakref.finalize(self, _end, self._process, self._pid)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        first = {
            "path": str(self._file),
            "parent": self._pid,
            "threads": self._threads,
            "limit_s": self._limit_s,
            "limit_bytes": int(self._limit_gib * 2**30),
            "expected": [1, *self._embedding_shape],
        }
        answer, _ = self._ask(first, memoryview(b""), self._limit_s + _START_S)
        if answer["num_inputs"] != 1:
            self._fail(f"it takes {answer['num_inputs']} inputs, expected one")
        declared: list[Any] = answer["declared"]
        return declared

    def _end(self) -> None:
        self._finalizer()

    def _ask(
        self, asked: dict[str, Any], content: memoryview, limit_s: float | None = None
    ) -> tuple[dict[str, Any], bytearray]:
        """Send a message and return the answer to it.

        Raises:
            InputError: There is none in time, or it says that the file cannot be run.
        """
        until = time.monotonic() + (self._limit_s if limit_s is None else limit_s)
        self._send(json.dumps(asked).encode() + b"\n", until)
        self._send(content.cast("B") if content.nbytes else b"", until)
        line, rest = self._receive_line(until)
        try:
            answer = json.loads(line)
            kind, count = answer["kind"], answer["num_bytes"]
        except (ValueError, KeyError, TypeError):
            self._fail("its process gave no answer that can be read")
        if kind == onnx_child.BROKEN:
            self._fail(str(answer.get("reason")))
        held = 8 * int(np.prod([1, *self._embedding_shape]))
        if not 0 <= count <= held:
            self._fail("its process gave no answer that can be read")
        return answer, self._receive(rest, count, until)

    def _send(self, content: bytes | memoryview, until: float) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        left = memoryview(content)
        while left:
            self._wait(pipe.fileno(), until, writing=True)
            try:
                left = left[os.write(pipe.fileno(), left) :]
            except BlockingIOError:
                continue
            except OSError:
                return  # it has ended, or says why before it does

    def _receive_line(self, until: float) -> tuple[bytes, bytearray]:
        """Return the line that an answer begins with, and what has been read after it."""
        read = bytearray()
        while (end := read.find(b"\n")) < 0:
            if len(read) > _LONGEST_LINE:
                self._fail("its process gave no answer that can be read")
            self._read_into(read, until)
        return bytes(read[:end]), read[end + 1 :]

    def _receive(self, read: bytearray, count: int, until: float) -> bytearray:
        while len(read) < count:
            self._read_into(read, until)
        return read

    def _read_into(self, read: bytearray, until: float) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        self._wait(pipe.fileno(), until)
        try:
            part = os.read(pipe.fileno(), 2**20)
        except BlockingIOError:
            return
        if not part:
            self._ended()
        read += part

    def _wait(self, handle: int, until: float, writing: bool = False) -> None:
        """Wait until a pipe can be read from, or written to."""
        poll = select.poll()
        poll.register(handle, select.POLLOUT if writing else select.POLLIN)
        left_s = until - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            self._end()
            problem = f"{self.path} took longer than {self._limit_s:g} s for one image"
            raise InputError(None, KEY, problem, f"raise {LIMIT_S} if it needs more")

    def _ended(self) -> NoReturn:
        code = self._process.wait()
        self._end()
        if -code == getattr(signal, "SIGXCPU", None):
            problem = f"{self.path} took longer than {self._limit_s:g} s for one image"
            raise InputError(None, KEY, problem, f"raise {LIMIT_S} if it needs more")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        problem = f"{self.path}: the process that runs it ended ({how})"
        fix = f"it may hold {self._limit_gib:g} GiB; raise {LIMIT_GIB} if it needs more"
        raise InputError(None, KEY, problem, fix)

    def _fail(self, reason: str) -> NoReturn:
        self._end()
        raise InputError(None, KEY, f"{self.path} cannot be read as ONNX ({reason})")


def _end(process: subprocess.Popen[bytes], pid: int) -> None:
    """End a process that this one started; one of the process it was forked from is let be."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    if pid != os.getpid():
        process.returncode = process.returncode or 0  # not ours to wait for
        return
    if process.poll() is None:
        process.kill()
    process.wait()


def build(settings: EncoderSettings, dims: SamDims) -> OnnxImageEncoder:
    """Open the file that `encoder.path` names, in the place of the encoder of a SAM.

    Raises:
        InputError: It cannot be opened, asks for too much, or takes images of another size.
    """
    assert settings.path is not None  # an encoder that needs a path has one
    return OnnxImageEncoder(
        settings.path,
        image_size=dims.image_size,
        embedding_shape=(dims.embed_dim, dims.grid, dims.grid),
        limit_s=settings.onnx_limit_s,
        limit_gib=settings.onnx_limit_gib,
    )

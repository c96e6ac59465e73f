"""The process that runs an ONNX file: a program, started by `OnnxImageEncoder` and by nobody else.

It gets images on its standard input and answers on its standard output, each message a line of JSON
and the bytes that the line announces. What an ONNX file does is up to whoever wrote it, so it runs
here: with a limit on memory and processor time, and never longer than the process that started it.
It imports nothing of this package, so that it starts in a third of a second.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import threading
import time
from typing import IO, Any

import numpy as np

READY, REFUSED, BROKEN = "ready", "refused", "broken"
"""What an answer is: as asked, of another shape, or no answer since the file cannot be run."""
_OTHERS_LOOK_S = 0.5


def main() -> None:
    """Open the file that the first message names, and answer every further one."""
    inward, outward = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else writes into the answers
    asked = json.loads(inward.readline() or "{}")
    if not asked:
        return
    _watch(asked["parent"])
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # meant for the one that asks, and that ends us
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    cpu_s = math.ceil(asked["limit_s"] * asked["threads"]) + 1
    _limit_memory(asked["limit_bytes"])
    try:
        _limit_time(cpu_s)
        session = _session(asked["path"], asked["threads"])
        given, made = session.get_inputs(), session.get_outputs()
        if not given or not made:
            raise ValueError(f"it has no {'output' if given else 'input'}")
        declared = [side if isinstance(side, int) else str(side) for side in given[0].shape]
        _answer(outward, READY, {"declared": declared, "num_inputs": len(given)})
        name, wanted = given[0].name, [made[0].name]
        while (line := inward.readline()).strip():
            shape = json.loads(line)["shape"]
            image = np.frombuffer(_exactly(inward, math.prod(shape) * 4), np.float32)
            _limit_time(cpu_s)
            found = session.run(wanted, {name: image.reshape(shape)})[0]
            _answer_array(outward, found, asked["expected"])
    except Exception as error:  # onnxruntime has no common base class for its errors
        reason = (str(error).splitlines() or [""])[0][:300] or type(error).__name__
        _answer(outward, BROKEN, {"reason": reason})


def _session(path: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _answer_array(outward: IO[bytes], found: Any, expected: list[int]) -> None:
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub":
        _answer(outward, BROKEN, {"reason": f"its output is no tensor of numbers ({type(found)})"})
    elif list(found.shape) != expected:
        _answer(outward, REFUSED, {"shape": list(found.shape)})
    else:
        content = np.ascontiguousarray(found)
        _answer(outward, READY, {"dtype": content.dtype.str}, content)


def _answer(outward: IO[bytes], kind: str, said: dict[str, Any], content: Any = b"") -> None:
    held = memoryview(content).cast("B")
    line = json.dumps({"kind": kind, **said, "num_bytes": held.nbytes})
    outward.write(line.encode() + b"\n")
    outward.write(held)
    outward.flush()


def _exactly(inward: IO[bytes], count: int) -> bytes:
    content = inward.read(count)
    if len(content) < count:
        raise EOFError("the image ended early")
    return content


def _limit_memory(limit_bytes: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            limit_bytes = min(limit_bytes, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(cpu_s: int) -> None:
    """Let the system end this process where it computes too long, whoever still watches it."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        soft = math.ceil(time.process_time()) + cpu_s
        if most != resource.RLIM_INFINITY:
            soft = min(soft, most)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, most))


def _watch(parent: int) -> None:
    """End this process when the one that started it is gone, however that came about."""

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(_OTHERS_LOOK_S)
        os._exit(143)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main()

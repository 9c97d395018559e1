"""Open ONNX files: comes in the file of a model that nobody vouches for, goes out what it computes, in bounded memory.

A model is a program. It can ask for any memory, when it is opened (constants are folded then) or when it is run; and it
can keep its weights in other files. Here all models of a process share one limit, and no other file is read.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from recsys_cl.errors import SealError

MOST_FILE_BYTES = 2 << 30
"""Of one model; what its format can hold."""
MOST_MEMORY_BYTES = 8 << 30
"""Of what all models of a process hold at once, on a machine of at least twice that; on a smaller one half of it."""


class Session:
    """An open model; inputs, outputs: their names; shapes: of the inputs, as the model says."""

    def __init__(self, path: Path, n_threads: int = 1) -> None:
        """Raises SealError where onnxruntime cannot open the file; OSError where it cannot be read."""
        import onnxruntime  # a quarter of a second, which lookups of known users need not wait for

        size = path.stat().st_size
        if size > MOST_FILE_BYTES:
            raise SealError(path.name, f"{size} bytes", f"a model of at most {MOST_FILE_BYTES} bytes")
        _limit_memory()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
        options.log_severity_level = 4  # what it has to say is in our message
        options.add_session_config_entry("session.use_env_allocators", "1")
        try:  # from its bytes: weights in another file, which no release would have, are not found so
            # Nothing to fall back to; it would try again all the same, and say so on standard output.
            self._session: Any = onnxruntime.InferenceSession(
                path.read_bytes(), sess_options=options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            self.inputs, self.outputs = [node.name for node in inputs], [node.name for node in outputs]
            self.shapes = [node.shape for node in inputs]
        except Exception as error:  # onnxruntime raises a dozen classes without a common base; names may be no text
            raise SealError(path.name, f"onnxruntime cannot open it ({error})", "a whole ONNX file") from error
        self.name = path.name

    def run(
        self, given: Mapping[str, NDArray[np.generic]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[np.float32]]:
        """Outputs for inputs by name. Raises SealError where the model fails, or asks for too much memory."""
        try:
            found: list[NDArray[np.float32]] = self._session.run(outputs, dict(given))
        except Exception as error:  # as above
            raise SealError(self.name, f"onnxruntime cannot run it ({error})", "a model of this release") from error
        return found


@functools.cache
def _limit_memory() -> None:
    import onnxruntime

    most = min(MOST_MEMORY_BYTES, psutil.virtual_memory().total // 2)
    kind, where = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    info = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, where)
    onnxruntime.create_and_register_allocator(info, onnxruntime.OrtArenaCfg({"max_mem": most}))

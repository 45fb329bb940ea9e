"""The detector in a process of its own.

Its native code writes to standard error and may fail to start, neither of which is to touch the program that asks. The
process is `python -m vasa_jax.faces -`: arrays (.npy) go in one after the other, a line of JSON comes out for each.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from vasa_jax.faces.landmarks import Face, NoDetectorError


class LandmarkerApart:
    """Finds faces as `Landmarker` does; a context manager."""

    def __init__(self):
        """Start the process; whether the detector works there is known at the first picture."""
        paths = os.pathsep.join(path for path in sys.path if path)
        self._told = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vasa_jax.faces", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            env=os.environ | {"PYTHONPATH": paths},
        )

    def __enter__(self) -> "LandmarkerApart":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin and self._process.stdout
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # something was on its way to it
            self._process.stdin.close()
        self._told.close()

    def find(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """The faces of an RGB picture, the largest first; empty where there are none.

        Raises:
            NoDetectorError: where the detector does not work on this machine.
        """
        assert self._process.stdin and self._process.stdout
        given = io.BytesIO()
        np.save(given, picture, allow_pickle=False)
        try:
            self._process.stdin.write(given.getbuffer())
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            code = self._process.wait()
            self._told.seek(0)
            told = self._told.read().decode(errors="replace").splitlines()
            raise NoDetectorError(told[-1].removeprefix("faces: error: ") if told else f"exit code {code}")
        rows = json.loads(line)
        return [Face(np.array(row["points"]), row["shapes"], np.array(row["transform"])) for row in rows]


def find_apart(photo: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
    """The faces of one photo, the largest first; raises as `LandmarkerApart`."""
    with LandmarkerApart() as landmarker:
        return landmarker.find(photo)

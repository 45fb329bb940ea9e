"""One run a workdir: a lock that the system gives back when its holder ends, however it ends."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vasa_jax.errors import UserError


@contextmanager
def locked(workdir: str | Path, advice: str = "stop it or choose another --workdir") -> Iterator[None]:
    """Hold `WORKDIR/lock`; the file names the holder and stays behind, unlocked. `advice` is the way out.

    Raises:
        UserError: where another process holds it, naming it.
    """
    path = Path(workdir) / "lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = " ".join(file.read().split()) or "another run"
            raise UserError(f"{str(workdir)!r} is in use by {holder}; {advice}") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield

"""One run a workdir: a lock that the system gives back when its holder ends, however it ends."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vasa_jax.errors import UserError, reason, refusals


@contextmanager
def locked(workdir: str | Path, advice: str = "stop it or choose another --workdir") -> Iterator[None]:
    """Hold `WORKDIR/lock`; the file names the holder and stays behind, unlocked. `advice` is the way out.

    Raises:
        UserError: where another process holds it, naming it.
    """
    import fcntl  # of POSIX systems

    path = Path(workdir) / "lock"
    with ExitStack() as stack:
        with refusals("open", path):
            file = stack.enter_context(path.open("a+"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = " ".join(file.read().split()) or "another run"
            raise UserError(f"{str(workdir)!r} is in use by {holder}; {advice}") from error
        except OSError as error:
            raise UserError(
                f"cannot lock {path} ({reason(error)}): its file system has no locks, so two runs could write there at "
                "once; mount it with them (flock), or choose a folder on another"
            ) from error
        with refusals("write", path):
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield

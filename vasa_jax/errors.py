"""What a user can mend, told in one line; everything else is a bug and keeps its traceback.

`UserError` is the only exception that the commands turn into one line and exit code 2. What the system or a library
refuses (no room on the disk, no permission, a damaged file, no memory on the device) is translated to it where it
arises, by `refusals`, since only there the path and the way out are known.
"""

import contextlib
import os
from collections.abc import Iterator


class UserError(ValueError):
    """A value, a file or a machine that cannot do what was asked; the message names it and the way out."""


def printable(text: str) -> str:
    """A text whose letters a terminal only shows: what steers one becomes a question mark."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def reason(error: BaseException) -> str:
    """What an exception says, on one line of letters that a terminal only shows; its type where it says nothing."""
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return printable(text) or type(error).__name__


@contextlib.contextmanager
def refusals(action: str, path: str | os.PathLike, *kinds: type[BaseException], advice: str = "") -> Iterator[None]:
    """Turn what the system refuses inside into a UserError.

    Args:
        action: what is done to the path, as "write" or "read".
        path: of the file or folder, for the message.
        kinds: exceptions of libraries that mean the same, beside OSError.
        advice: the way out, where there is one to say.

    Raises:
        UserError: "cannot ACTION PATH: REASON; ADVICE".
    """
    try:
        yield
    except UserError:
        raise
    except (OSError, *kinds) as error:
        raise UserError(f"cannot {action} {os.fspath(path)}: {reason(error)}{advice and '; ' + advice}") from error


@contextlib.contextmanager
def device_memory(advice: str) -> Iterator[None]:
    """Turn a device, or a machine, that runs out of memory inside into a UserError.

    Args:
        advice: how to need less.

    Raises:
        UserError: naming the device and the advice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (lacking := lacking_memory(error)):
            raise
        raise UserError(f"{lacking}; {advice}") from error


def lacking_memory(error: BaseException) -> str:
    """What ran out of memory, and when, where an exception of Python, NumPy or JAX says that; else ""."""
    if isinstance(error, MemoryError):
        where = "this machine"
    else:
        import jax  # this module is read before JAX is told where to run

        words = str(error).lower()
        if not isinstance(error, jax.errors.JaxRuntimeError):
            return ""
        if "resource_exhausted" not in words and "out of memory" not in words:
            return ""
        where = jax.local_devices()[0].device_kind
    return f"{where} ran out of memory: {reason(error)[:200]}"


def check_devices(flag: str = "") -> None:
    """Start JAX, and see whether the machine has what was asked for.

    Args:
        flag: how it was asked for, as "--platform gpu"; empty where only the environment can say.

    Raises:
        UserError: the machine has no such device, or JAX no such platform.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts where CUDA's plug-in is not installed
        asked = flag or f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}"
        extra = "tpu" if "tpu" in asked else "cuda"
        raise UserError(
            f"{asked}: JAX finds no such device; install vasa-jax[{extra}] on a machine that has one, or leave it out"
        ) from error

"""stdin, stdout and stderr of the process: closed, full, or a pipe whose reader has gone.

A result that cannot be written is an error with an exit code of its own. What a worker and its
handlers print, and all that goes to stderr, may be lost: work goes on.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Generator
from typing import IO, Any

from typing_extensions import TypeIs

from wakelog_adapters.cli.exit_codes import UNWRITTEN, complain

__all__ = ["Output", "OutputError", "may_lose_stdout", "standard_streams"]

STDIN, STDOUT, STDERR = range(3)


class OutputError(Exception):
    """stdout cannot be written to."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"the result could not be written to stdout: {cause.strerror or cause}")
        self.is_pipe_end = cause.errno == errno.EPIPE
        """Its reader has gone, which is no mistake: `| head`."""


class Output(io.TextIOWrapper):
    """A stream on a descriptor, which stays open. A narrow encoding is no reason to fail."""

    def __init__(self, fd: int, stream: IO[str] | None) -> None:
        """In place of `stream`, and like it; None: it was closed."""
        like = stream if _is_wrapper(stream) else None
        is_unbuffered = like is not None and like.write_through
        super().__init__(
            open(fd, "wb", buffering=0 if is_unbuffered else -1, closefd=False),  # noqa: SIM115
            encoding="utf-8" if like is None else like.encoding,
            errors="backslashreplace",
            line_buffering=fd == STDERR or (like is not None and like.line_buffering),
            write_through=is_unbuffered,
        )
        self.may_be_lost = fd == STDERR
        """Whether what cannot be written is dropped, instead of raising `OutputError`."""
        self.error: OutputError | None = None
        """Why something was lost, even if a library has caught it."""

    def write(self, text: str, /) -> int:
        with self._guarded():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with self._guarded():
            super().flush()

    @contextlib.contextmanager
    def _guarded(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            if self.may_be_lost:
                return
            sink = os.open(os.devnull, os.O_WRONLY)  # for what is left in the buffer
            os.dup2(sink, self.fileno())
            os.close(sink)
            self.error = OutputError(error)
            raise self.error from error


@contextlib.contextmanager
def standard_streams() -> Generator[None]:
    """Replace the streams of this process, for as long as it lives.

    A descriptor that is closed is taken, so that no file or connection gets its number. Ends the
    process with `UNWRITTEN` if stdout could not be written to.
    """
    _take(STDIN, os.O_RDONLY)
    _take(STDOUT, os.O_RDONLY)  # a result that is written there fails
    _take(STDERR, os.O_WRONLY)
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  it was closed
        sys.stdin = open(STDIN, closefd=False)  # noqa: SIM115
    sys.stderr = _output(STDERR, sys.stderr)
    sys.stdout = out = _output(STDOUT, sys.stdout)
    try:
        yield
    except OutputError:
        pass
    finally:
        if isinstance(out, Output):
            _check_written(out)


def _check_written(out: Output) -> None:
    with contextlib.suppress(OutputError):
        out.flush()
    if out.error is None:
        return
    if not out.error.is_pipe_end:
        complain([str(out.error)])
    sys.exit(UNWRITTEN)


def may_lose_stdout() -> None:
    """From now on what cannot be written to stdout is dropped: it is no result."""
    if isinstance(sys.stdout, Output):
        sys.stdout.may_be_lost = True


def _take(fd: int, mode: int) -> None:
    """Open a descriptor that is closed; each before it is open, so that it gets this number."""
    try:
        os.fstat(fd)
    except OSError:
        os.open(os.devnull, mode)


def _output(fd: int, stream: IO[str] | None) -> IO[str]:
    if stream is None or (_is_wrapper(stream) and stream.fileno() == fd):
        return Output(fd, stream)
    return stream


def _is_wrapper(stream: object) -> TypeIs[io.TextIOWrapper[Any]]:
    return isinstance(stream, io.TextIOWrapper)

"""How every command stops: with one line, without a traceback, where that line says what to do."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seqdistill.io import UserError, display_path


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """Exit with one line where a user can act on an error; `name` stands for a file that the error does not name."""
    try:
        yield
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped. What is finished is kept: the same command resumes.")
    except OSError as error:
        path = display_path(Path(error.filename)) if error.filename else name
        sys.exit(f"{path}: {error.strerror or error}; the previous outputs are as they were.")

"""What a broken law is in the simulator: an exception that ends the run where it happened, with the moment in its text; and where any
other exception came from."""

from __future__ import annotations

import traceback
from pathlib import Path


class Violation(Exception):
    """A safety invariant does not hold. ``law``: the P- or F-number that was broken; ``what``: the facts of this case."""

    def __init__(self, law: str, what: str) -> None:
        super().__init__(f"{law}: {what}")
        self.law = law
        self.what = what


def place(error: BaseException) -> str:
    """Where an exception was raised: file and line."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"

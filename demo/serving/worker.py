"""Run all visitors' work of one kind in a single thread, in order of arrival."""

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cvx import cancellation
from demo.serving.malloc import trim_soon

Result = TypeVar("Result")


class SerialWorker:
    """Does what it is given, one thing after another, for threads that wait meanwhile.

    A lock would do the same in the threads that ask, each of which would keep the memory that its largest map took.
    """

    def __init__(self, name: str):
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=name)

    def do(self, work: Callable[[], Result]) -> Result:
        """Do this when it is its turn, if somebody still waits for it then."""

        def wanted() -> Result:
            cancellation.check()
            try:
                return work()
            finally:
                trim_soon()

        return self._worker.submit(contextvars.copy_context().run, wanted).result()

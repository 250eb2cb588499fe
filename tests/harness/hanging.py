"""The service whose workers can be made to hang: SIGUSR1 stops their event loop, SIGUSR2 keeps all
their threads but that one busy, for as long as BUSY says in seconds.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

from service.app import ZooService as ZooService

logger = logging.getLogger("zoo.hanging")


def _hang(_number: int, _frame: object) -> None:
    time.sleep(600)


def _be_busy(_number: int, _frame: object) -> None:
    end = time.monotonic() + float(os.environ["BUSY"])

    def work() -> None:
        while time.monotonic() < end:
            sum(range(1000))

    def wait(threads: list[threading.Thread]) -> None:
        for each in threads:
            each.join()
        logger.warning("threads were busy")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    threading.Thread(target=wait, args=(threads,)).start()


signal.signal(signal.SIGUSR1, _hang)
signal.signal(signal.SIGUSR2, _be_busy)

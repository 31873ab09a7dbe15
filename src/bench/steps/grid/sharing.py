"""Work that several processes share: what another does now comes last, and is waited for."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from bench.tracking.ownership.claims import BusyError

log = logging.getLogger(__name__)

Item = TypeVar("Item")

# Between two looks whether others are done.
POLL_S = 3.0


def take_turns(items: Iterable[Item], attempt: Callable[[Item], None]) -> None:
    """Attempts every item; one that is busy is attempted again after the others, until it is not.

    An item whose other process dies is free again, so this always ends.

    Args:
        items: The work.
        attempt: Does an item, or raises BusyError.
    """
    pending, known = list(items), set()
    while pending:
        busy = []
        for item in pending:
            try:
                attempt(item)
            except BusyError as error:
                busy.append(item)
                if item not in known:
                    log.info("%s: later: %s", item, error)
                known.add(item)
        if len(busy) == len(pending):
            time.sleep(POLL_S)
        pending = busy

"""Python sleeps until a moment of the monotonic clock, which libfaketime 0.9.10 miscounts.

Source: clock_nanosleep in libfaketime.c; with FAKETIME_DONT_FAKE_MONOTONIC the moment is moved too.
"""

import select
import time


def sleep(seconds):
    """Sleeps for a time, as the original does."""
    select.select([], [], [], seconds)


time.sleep = sleep

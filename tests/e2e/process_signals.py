"""Signals to programs that count them."""

import re
import time


def send_each(process, number, times, limit):
    """Sends a signal so many times, each when the one before has been taken: those of one kind merge while they wait."""
    deadline = time.monotonic() + limit
    for _ in range(times):
        while is_waiting(process.pid, number):
            if time.monotonic() > deadline:
                raise TimeoutError(f"signal {number} is not taken")
            time.sleep(0.01)
        process.send_signal(number)


def is_waiting(pid, number):
    try:
        with open(f"/proc/{pid}/status") as f:
            return int(re.search(r"(?m)^ShdPnd:\s*(\w+)", f.read())[1], 16) >> (number - 1) & 1 == 1
    except OSError:
        return False  # it has ended

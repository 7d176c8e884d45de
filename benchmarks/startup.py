"""How long a reader waits before anything happens: importing the library and asking for help.

Prints one table: the median of seven fresh processes each, beside what the interpreter and torch alone cost.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from emibook.doctor import machine

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import emibook": ["-c", "import emibook"],
    "emibook --help": ["-m", "emibook.cli", "--help"],
    "import torch": ["-c", "import torch"],
}


def seconds(arguments: list[str]) -> float:
    """Wall time of one fresh interpreter."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    print(machine())
    print(f"{'command':<18} {'seconds':>8}")
    for name, arguments in COMMANDS.items():
        print(f"{name:<18} {statistics.median(seconds(arguments) for _ in range(7)):>8.3f}")

"""Become the broker's JVM, tied to the life of the process that started it.

    python -I -S launch.py PARENT_PID CPUS COMMAND...

Runs between fork and exec, as a program of its own, because Python code between the two is unsafe
in a process with threads. It asks the kernel to kill this process when its parent dies, then
execs COMMAND, which keeps both the pid and that promise.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, cpus: str, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if cpus:
            os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    # The parent may have died before the kernel was asked: then nobody would be told.
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])

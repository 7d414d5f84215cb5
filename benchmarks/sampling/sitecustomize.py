"""Samples the stack of the process it is imported by, every two milliseconds of processor time.

On SIGUSR2 the samples are written to the file that ``TENANTRY_BENCH_SAMPLES`` names, and begun anew.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from types import FrameType

_output = os.environ.pop("TENANTRY_BENCH_SAMPLES", "")
_INTERVAL = 0.002
_counts: Counter[tuple[tuple[str, str], ...]] = Counter()


def _sample(_: int, frame: FrameType | None) -> None:
    stack = []
    while frame is not None:
        stack.append((frame.f_code.co_filename, frame.f_code.co_qualname))
        frame = frame.f_back
    _counts[tuple(stack)] += 1


def _write(_: int, __: FrameType | None) -> None:
    entries = [{"count": count, "stack": stack} for stack, count in _counts.most_common()]
    _counts.clear()
    Path(_output).write_text(json.dumps(entries), encoding="utf-8")


if _output:
    signal.signal(signal.SIGPROF, _sample)
    signal.signal(signal.SIGUSR2, _write)
    signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)

"""Where a Python process spends its processor time: samples of its stack, and what they say.

The sampler is the module ``sitecustomize`` beside this one, which every Python process imports that has this
folder in ``PYTHONPATH``. It stops nothing and needs no library, so that the figures stay near the truth.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

_HERE = Path(__file__).resolve().parent
OUTPUT = "TENANTRY_BENCH_SAMPLES"


def environment(output: Path) -> dict[str, str]:
    """The variables that have a process sampled."""
    return {"PYTHONPATH": str(_HERE), OUTPUT: str(output)}


def summarise(path: Path, lines: int = 30) -> str:
    """Samples in words: by the package at work, then by function with all it calls."""
    stacks = json.loads(path.read_text(encoding="utf-8"))
    samples = sum(entry["count"] for entry in stacks)
    if not samples:
        return "no samples"
    leaf: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    for entry in stacks:
        frames = [(_module(file), name) for file, name in entry["stack"]]
        leaf[frames[0][0].partition(":")[0]] += entry["count"]
        for frame in {f"{module} {name}" for module, name in frames}:
            inclusive[frame] += entry["count"]
    text = [f"{samples} samples", "by the package whose code ran:"]
    text += [f"  {count / samples:6.1%}  {name}" for name, count in leaf.most_common(lines)]
    text.append("by function, with all that it called:")
    text += [f"  {count / samples:6.1%}  {name}" for name, count in inclusive.most_common(lines * 2)]
    return "\n".join(text)


def _module(file: str) -> str:
    """``package:module`` of a file: of an installed package, of this project, or of Python itself."""
    parts = Path(file).parts
    for marker in ("site-packages", "operator", "crds"):
        if marker in parts:
            inside = parts[parts.index(marker) + 1 :]
            return f"{inside[0].removesuffix('.py')}:{'.'.join(inside[1:]).removesuffix('.py')}"
    return f"python:{'.'.join(parts[-2:]).removesuffix('.py')}"

"""Benchmarks: each figure next to a reference that was measured in the same run. See README.md."""

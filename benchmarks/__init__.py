"""Benchmarks of aioqueue against its peers: ``python -m benchmarks --help``.

Absolute figures drift with the machine and the minute, so a target is a ratio inside one run: the
peers take turns, every turn is a fresh server process on one core, and the load comes from another.
"""

"""Measurements that print a table and write their numbers to `benchmarks/results/`. Run as `python -m benchmarks.NAME`."""

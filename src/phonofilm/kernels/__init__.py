"""Fused elementwise kernels: ops.py says what they compute, rows.py how, in Triton; choice.py chooses, check.py tries them."""

"""Fused elementwise kernels. choice.py says whether they are used, ops.py what they compute, rows.py how, in Triton."""

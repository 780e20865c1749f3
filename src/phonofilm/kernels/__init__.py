"""Fused elementwise kernels: ops.py says what they compute, norms.py, rotations.py and quantization.py how, in Triton;
cases.py holds each against PyTorch's operations, check.py tries them on this machine, choice.py chooses.
"""

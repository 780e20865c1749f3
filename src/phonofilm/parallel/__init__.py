"""One clip on several devices: which rank computes what, what they exchange, and how the ranks start and end.

Applied from outside: `phonofilm.models` knows nothing of it. docs/parallel.md draws the mesh.
"""

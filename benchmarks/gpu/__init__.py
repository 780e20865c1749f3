"""Everything worth knowing about one GPU in ten minutes, by one command: `python -m benchmarks.gpu --out DIR`.

stages.py lists what is measured, in order of value; runner.py keeps time and ends a stage that overruns; worker.py runs the
stages, in a process of its own. The other files are the stages.
"""

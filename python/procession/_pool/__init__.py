"""The parts of a pool: its workers, tasks, results, options and figures.

The classes that users call are in `pool`, and the executor's in `_executor`; which worker runs which
task is decided by the engine.
"""

"""`ProcessPoolExecutor`, with the errors and the `map` that `concurrent.futures` users know.

Its workers and tasks are those of `pool`; only futures and their order are decided here.
"""

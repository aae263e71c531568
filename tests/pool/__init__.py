"""Pools of processes and of threads. `shapes` and `tasks` are what their tests share."""

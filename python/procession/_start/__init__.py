"""The bodies behind the start methods: what a child needs before its own code runs.

The public names are in `popen_*`, `spawn`, `forkserver` and `resource_tracker`, and stay there; the
system calls are the engine's.
"""

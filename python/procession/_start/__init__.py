"""What the start methods need behind their public names.

The functions that other programs replace are in `popen_*`, `spawn`, `forkserver` and
`resource_tracker`; the system calls are the engine's.
"""

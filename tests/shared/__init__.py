"""Named shared memory, and ctypes objects in shared memory."""

"""What `pickle` cannot carry: functions and classes sent by value, and the ends of queues.

The pickler and the registry of reducers are in `reduction`, the buffers of large arrays in the engine.
"""

"""What `pickle` cannot carry: functions and classes sent by value, and the ends of queues.

The pickler and the registry of reducers are in `reduction`, the buffers of large arrays in the engine.
"""

#: The functions of `rebuild` that pickles call. Pickles name them as this package's: `pickle` itself
#: would import `rebuild` in the thread that receives, and a signal handler that interrupted this and
#: received a function, too, would find the module half made.
REBUILDING = (
    "fill_cell",
    "finish_class",
    "finish_function",
    "main_dict",
    "make_cached",
    "make_cached_property",
    "make_cell",
    "make_class",
    "make_function",
    "make_method",
    "module_dict",
)


def __getattr__(name: str) -> object:
    if name not in REBUILDING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .._procession import import_whole  # not with the package, which loads no extension

    return getattr(import_whole(f"{__name__}.rebuild"), name)

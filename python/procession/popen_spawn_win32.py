"""The counterpart of the module that starts children on Windows, which is not supported."""

__all__: list[str] = []

raise ImportError("procession runs on Linux only")

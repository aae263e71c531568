"""The standard library's module of this name starts children on Windows, which this engine does not support."""

__all__: list[str] = []

raise ImportError("procession runs on Linux only")

"""What CPython does around the package: imports, forks, signals, collection, finalization."""

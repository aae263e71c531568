"""The programs of the pages in `docs`."""

"""The start methods, and programs that start processes in unusual ways."""

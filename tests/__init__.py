"""The tests in Python; each folder has those of a part of the package."""

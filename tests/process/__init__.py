"""Processes and contexts, what parents and children are to each other, what they print and log."""

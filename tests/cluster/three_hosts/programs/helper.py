"""A module that lies beside a program, and has to reach the other hosts with it."""

from __future__ import annotations

CONSTANT = "of the helper"


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

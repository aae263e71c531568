"""Storms: random ones of processes that work together are killed, and new ones join.

A kill comes every few milliseconds.
"""

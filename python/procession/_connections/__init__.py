"""Connections: framing, sockets, listeners, and the proof of the key that precedes all messages.

The names that users import are in `connection`; how a message is pickled is decided in `reduction`.
"""

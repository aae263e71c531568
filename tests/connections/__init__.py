"""Connections, listeners, and the peers that they refuse."""

"""The parts of managers: the server, its messages, the clients' links, proxies and shared types.

The names that users import are in `managers`, and sockets and handshakes in `_connections`.
"""

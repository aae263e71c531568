"""The standard library's names and behaviour, and programs that rely on them."""

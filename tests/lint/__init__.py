"""The project's own lints, and the tests that check them and the pages."""

"""The examples as tests: how each is run and judged."""

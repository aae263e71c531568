"""`ProcessPoolExecutor`, and the standard library's executor on procession."""

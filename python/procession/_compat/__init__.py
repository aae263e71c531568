"""procession under the name `multiprocessing`, and beside programs that expect the original.

Defects of the standard library that some programs need are here, and nowhere else in the package.
"""

"""Other people's packages on procession: a short program for each, and some of their own suites.

`make integration` installs the packages, runs all and writes ``docs/integrations.md``.
"""

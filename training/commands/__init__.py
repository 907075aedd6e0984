"""Command-line jobs, grouped by module: each job's arguments and the function that runs it.

Packages that are slow to import, or that only some jobs need, are imported inside these functions.
"""

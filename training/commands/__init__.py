"""The jobs of the command line: a module for each group, with the arguments beside the functions that run them.

Packages that take long to import, or that only some jobs need, are imported inside those functions.
"""

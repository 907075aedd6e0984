"""Tools of the benchmarks: start processes and servers, measure in turns, describe the machine, print tables."""

"""What benchmarks share: processes and servers, measuring in turns, tables, and a description of the machine."""

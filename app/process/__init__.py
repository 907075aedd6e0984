"""The service's processes: connections, CPU cores, shutdown and supervision."""

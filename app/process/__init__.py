"""The processes of the service: connections, cores, shutdown and supervision."""

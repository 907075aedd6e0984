"""What is counted, timed, logged and compared while the service runs."""

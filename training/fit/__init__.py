"""Training: the loop, what it shows the network, and the run directory it writes."""

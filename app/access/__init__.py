"""Access control: keys, rates, hosts and origins."""

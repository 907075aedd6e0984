"""How fast it is: the service against itself, against its peers, and the training against PyTorch's."""

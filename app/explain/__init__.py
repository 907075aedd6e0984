"""What the network looked at: an image, its map of influence, and pictures of it."""

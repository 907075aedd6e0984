"""Training: the loop, its augmented views of the images, and the run directory it writes."""

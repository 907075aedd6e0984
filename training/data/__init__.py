"""Labelled images: CIFAR-10, and folders of people's own."""

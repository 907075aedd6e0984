"""Labelled images: CIFAR-10 and users' own folders."""

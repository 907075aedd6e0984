"""A version's model card, as a page."""

"""The model card of a version, as HTML."""

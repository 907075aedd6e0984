"""Classification of files without a server."""

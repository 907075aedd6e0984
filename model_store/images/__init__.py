"""Image files: what their bytes say of themselves, and hostile bytes turned into pixels."""

"""Classification of whole folders, archives, Parquet files and buckets into one Parquet file.

Imported by `python -m app classify --to` only: it needs the dependency group `bulk`, which the service does not have.
"""

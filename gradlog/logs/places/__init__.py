"""Where logs and results lie: folders, files, zip archives, URLs, and what was opened with zarr."""

"""Results as series in the files of other tools: Parquet, CSV, TensorBoard's events."""

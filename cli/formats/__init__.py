"""How results are written: table, Markdown, JSON, CSV."""

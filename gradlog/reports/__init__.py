"""What a person sees of a result: text in tables, before anyone draws it."""

"""What a pass gathers: each measure in a module or a folder of its own."""

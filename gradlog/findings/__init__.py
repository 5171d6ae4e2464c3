"""What stands out in a finished analysis: a module for each kind of finding, and a table that lists them."""

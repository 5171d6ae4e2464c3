"""The command line: parses words, calls one function of `gradlog`, hands the result to a renderer."""

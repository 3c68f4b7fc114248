"""wakelog inside other applications, one file for each: see docs/embedding.md."""

"""Views that are written in the append's own transaction."""

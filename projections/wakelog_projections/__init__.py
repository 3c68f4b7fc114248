"""Views of the log. Depends on the engine; depends on no database."""

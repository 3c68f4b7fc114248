"""Questions asked of the log. Knows the engine; knows no database."""

"""The log: how an event becomes a stored record, and how records become an instance again."""

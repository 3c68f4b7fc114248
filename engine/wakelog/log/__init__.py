"""The log: events as stored records, and instances rebuilt from records."""

"""The inbox of the SQL stores: rows that callers insert by connections of their own."""

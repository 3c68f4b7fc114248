"""Events that are sent in a transaction of the caller's own, and what they become (E1)."""

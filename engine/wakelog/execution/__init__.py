"""User code, called: handlers on the event loop or on a thread, and what they say about retries."""

"""Execution of user code: handlers on the event loop or on a thread, and their retry advice."""

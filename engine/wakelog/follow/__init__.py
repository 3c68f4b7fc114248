"""Followers of the log: messages for the outside, in order, with a recorded position (I3)."""

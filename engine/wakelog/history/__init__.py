"""History and time travel: every event of every life, described, and any past state (H1)."""

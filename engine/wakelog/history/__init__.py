"""Time travel: every event of every life in plain words, and any state there was."""

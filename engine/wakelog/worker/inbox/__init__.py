"""The inbox, as a worker presents and delivers it (E1)."""

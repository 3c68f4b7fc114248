"""What the core knows of worker pools: the events of many items at a time."""

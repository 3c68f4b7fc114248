"""One process at work: instances in memory, group commit, batched reads, the store's threads."""

"""What the client of a WorkerPool is made of: its results, what it reads, and what operators do."""

"""What is due: claims, runs, leases and the sweep that finds what was stranded."""

"""The work on pools: partitions that are held, the calls they make together, and all pools."""

"""`wakelog demo`: a story that is told with a real worker, a real kill and virtual time."""

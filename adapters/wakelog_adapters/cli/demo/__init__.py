"""`wakelog demo`: a real worker, a real kill and virtual time."""

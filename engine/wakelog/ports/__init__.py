"""What adapters fill: small protocols, and the plain values that pass through them."""

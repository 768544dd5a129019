"""Side-by-side measurements, the peer in the same run."""

"""Algorithms, what `algorithm=` names."""

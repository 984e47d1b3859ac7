"""Operators, what `operator=` names."""

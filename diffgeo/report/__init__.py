"""How every command ends: sample, measure, draw, write."""

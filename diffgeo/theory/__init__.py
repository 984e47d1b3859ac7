"""Theory held against computation: orders of samplers, admissible schedules, schedules fitted to a
trajectory."""

"""Write the results of `analysis` for other programs: JSON, CSV, folded stacks, speedscope."""

"""Write what `analysis` found for other programs: JSON, CSV, folded stacks, speedscope."""

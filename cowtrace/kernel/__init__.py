"""Find what this kernel offers (BTF, symbols, privileges) and make a `ProbePlan` of it."""

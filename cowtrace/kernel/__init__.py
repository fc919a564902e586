"""What this kernel offers: BTF, symbols, privileges. Out comes a `ProbePlan`."""

"""Find which page frames processes map, and which they map in common: from /proc, without BPF."""

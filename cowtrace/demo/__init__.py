"""The story of a page after fork: played by real processes, told from what was traced."""

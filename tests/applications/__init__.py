"""Real applications, traced: each module drives one, and says by what else its copies are known."""

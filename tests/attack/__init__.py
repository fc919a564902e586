"""Attack the long-lived commands as an ordinary user would, while a victim's copies are counted."""

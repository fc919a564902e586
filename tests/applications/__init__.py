"""Trace real applications: each module drives one and checks its copies against other sources."""

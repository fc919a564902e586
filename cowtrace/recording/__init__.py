"""Snapshots of a trace, kept in a file: SQLite, one transaction an interval."""

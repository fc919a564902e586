"""Snapshots made machine-readable. No bcc, no click."""

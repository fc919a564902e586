"""Snapshots made readable: tables for a terminal, plain text for a pipe. No bcc, no click."""

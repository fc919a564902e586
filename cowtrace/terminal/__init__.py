"""Render what `analysis` found as rich tables and text of 80 columns."""

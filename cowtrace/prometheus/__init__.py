"""Serve the counts to Prometheus, with its alert rules, dashboard and systemd unit."""

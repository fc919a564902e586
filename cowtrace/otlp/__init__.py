"""Send the counts, and the code that copies, to an OpenTelemetry collector (OTLP over HTTP)."""

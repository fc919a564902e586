"""Turn snapshots and recordings into rows and answers, without rich and without the tracer."""

"""What tracing costs: `make bench`. No part of `make test`."""

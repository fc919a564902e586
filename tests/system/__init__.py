"""Tests of real faults: on this machine's kernel (`host`), in the test VM (`vm`), or both."""

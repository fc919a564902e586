"""The test VM: builds its images, boots a kernel, runs a command in it."""

"""Write a recording, or stacks, as one HTML file that loads nothing over the network."""

"""Big files under a limit of memory: `make soak`."""

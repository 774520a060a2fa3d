"""`make up`: the whole stack on this machine, in the foreground, from the embedded servers to the first sync."""

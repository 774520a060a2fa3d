"""`make bench`: the engine, its peers and the floor, side by side in one run on one PostgreSQL."""

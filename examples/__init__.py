"""One small feed for each kind of source, to start from; switched on by EXTRA_APPS=examples."""

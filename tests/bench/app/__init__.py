"""The benchmark's own tables and feeds; installed through EXTRA_APPS."""

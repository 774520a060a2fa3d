"""The tables, feeds and kill points of the fault tests; installed through EXTRA_APPS in their processes only."""

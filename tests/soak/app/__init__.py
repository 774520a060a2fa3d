"""The feeds of the big export; added through EXTRA_APPS."""

"""What the engine tells the application: Django signals."""

from django.dispatch import Signal

# Sent after each chunk's commit, once; `sender` is the model. See docs/feeds.md for the arguments.
chunk_committed = Signal()

"""The example feed: JSONPlaceholder's photo collection."""

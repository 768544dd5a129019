"""Which statement of a text is its answer; `order` says in which order its statements are trusted."""

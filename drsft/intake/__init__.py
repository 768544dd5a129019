"""From a user's data to problems: reading, checking, screening and cutting into shards."""

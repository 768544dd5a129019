"""How fast problems are read, beside another checkout's build."""

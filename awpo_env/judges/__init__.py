"""Built-in judges of reasoning."""

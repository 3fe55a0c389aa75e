"""The console: who may look, what it lists, and the pages in a real browser."""

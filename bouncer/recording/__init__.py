"""What happened in a room as a file, and what a bouncer would have done there under another configuration."""

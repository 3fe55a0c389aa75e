"""Everything about configuration: layers of JSON in, what is in force out, and errors for the person who wrote it."""

"""Floor 2: SQLite and blob files."""

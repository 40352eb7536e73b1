"""Floor 5: click commands, one file each."""

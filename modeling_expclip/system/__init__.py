"""What any command needs of the system: files that appear whole, locks, the terminal, YAML."""

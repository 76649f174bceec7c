"""What `xtrace doctor` looks at."""

"""What type checkers and readers of annotations find."""

"""What is left after deaths, and what happens when a resource is used up."""

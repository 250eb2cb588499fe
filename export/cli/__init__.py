"""What a person sees and types: the commands that need a file of their own, and what they print."""

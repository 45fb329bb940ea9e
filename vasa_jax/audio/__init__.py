"""What happens to sound before a network hears it."""

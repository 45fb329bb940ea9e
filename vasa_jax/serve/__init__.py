"""The live server: one engine that computes for all sessions, and the doors through which they are reached."""

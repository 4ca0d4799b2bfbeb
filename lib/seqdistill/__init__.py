"""Teach sequential recommenders what an LLM knows about their users, then serve them without it."""

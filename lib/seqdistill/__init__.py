"""Teach sequential recommenders what an LLM knows about their users, then serve them without it."""

import warnings

# accelerate's progress bars ask for ipywidgets when they are imported; the book's are plain lines.
warnings.filterwarnings("ignore", message="IProgress not found")

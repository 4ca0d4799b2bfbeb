"""Sequential recommenders taught by LLM-written user profiles."""

import warnings

# accelerate's progress bars ask for ipywidgets when they are imported; the book's are plain lines.
warnings.filterwarnings("ignore", message="IProgress not found")

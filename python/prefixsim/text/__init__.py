"""Text into tokens: chat templates, tokenizers, and the ids they give."""

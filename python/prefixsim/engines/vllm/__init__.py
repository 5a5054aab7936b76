"""vLLM V1: its scheduler and KV cache manager, with time."""

"""What would a cache of 5,000 blocks save on this traffic?

Prints::

    2,000 requests, 3,588,226 prompt tokens
    unbounded cache: 88.47% of the prompt tokens are hits
    5,000 blocks of 16: 67.34%
"""

import prefixsim

trace = prefixsim.generate("chat", requests=2000, seed=0).trace()
print(f"{len(trace):,} requests, {trace.prompt_tokens:,} prompt tokens")

forest = prefixsim.compile(trace)  # once; every replay below starts from it
unbounded = prefixsim.replay(forest)
print(f"unbounded cache: {unbounded.summary['token_hit_rate']:.2%} of the prompt tokens are hits")
bounded = prefixsim.replay(forest, num_blocks=5000)
print(f"5,000 blocks of 16: {bounded.summary['token_hit_rate']:.2%}")

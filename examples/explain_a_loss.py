"""Where did the missed tokens go, and what would bring them back?

Prints::

    hit         46.6%
    cold         4.8%
    rounding     0.1%
    evicted     48.5%
    8,086 blocks (1.62 times as many): +24.3%
    11,769 blocks (2.35 times as many): +43.6%
    15,799 blocks (3.16 times as many): +48.5%
    the best possible policy: +24.6%
"""

import prefixsim

trace = prefixsim.generate("agent", requests=1000, seed=0).trace()
result = prefixsim.replay(trace, engine="lru", num_blocks=5000)
waterfall = result.waterfall()

for name, tokens in waterfall.totals.items():
    if tokens:
        print(f"{name:10} {tokens / trace.prompt_tokens:6.1%}")
for remedy in waterfall.remedies:
    if "evicted" in remedy.classes:
        gain = remedy.gained_tokens / trace.prompt_tokens
        print(f"{remedy.change}: {gain:+.1%}")

"""How large a cache do these requests need, and how far is LRU from the best possible?

Prints::

    ceiling 43.13%
    50% of it: 31,455 blocks with LRU, 3,527 with the best policy
    90% of it: 105,791 blocks with LRU, 20,171 with the best policy
    99% of it: 185,667 blocks with LRU, 32,194 with the best policy
"""

import prefixsim

trace = prefixsim.generate("rag", requests=2000, seed=0).trace()
lru, best = prefixsim.curve(trace, block_size=[16], policy=["lru", "clairvoyant"])

print(f"ceiling {lru.ceiling:.2%}")
for share in (0.5, 0.9, 0.99):
    blocks = lru.capacity_for(share * lru.ceiling)
    ideal = best.capacity_for(share * best.ceiling)
    print(f"{share:.0%} of it: {blocks:,} blocks with LRU, {ideal:,} with the best policy")

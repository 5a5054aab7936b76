"""One vLLM server at three cache sizes: what do users notice?

Prints::

     2,000 blocks: 49.7% hits, TTFT 14.69 s, p99 33.02 s, 3 preemptions
     4,000 blocks: 85.6% hits, TTFT 0.05 s, p99 0.13 s, 1 preemptions
     8,000 blocks: 94.3% hits, TTFT 0.05 s, p99 0.06 s, 0 preemptions
"""

import prefixsim

trace = prefixsim.generate("agent", requests=300, seed=0).trace()
forest = prefixsim.compile(trace, outputs=True)

for num_blocks in (2000, 4000, 8000):
    result = prefixsim.replay(
        forest, engine="vllm", num_blocks=num_blocks, max_num_seqs=32, latency="20ms"
    )
    figures = result.summary
    print(
        f"{num_blocks:>6,} blocks: {figures['token_hit_rate']:.1%} hits, "
        f"TTFT {figures['ttft_s']['median']:.2f} s, p99 {figures['ttft_s']['p99']:.2f} s, "
        f"{figures['preemptions']} preemptions"
    )

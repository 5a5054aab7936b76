"""Bytes of KV cache per token, from a model's Hugging Face ``config.json``.

Formulas, per GPU, with L attention layers, s bytes of an element and TP GPUs:

* multi-head, grouped-query and multi-query attention: ``2 * L * max(1, kv_heads / TP) * head_dim *
  s``: a key and a value for each KV head (Shazeer, arXiv:1911.02150; Ainslie et al.,
  arXiv:2305.13245). More GPUs than KV heads hold copies.
* multi-head latent attention: ``L * (kv_lora_rank + qk_rope_head_dim) * s``: one compressed vector
  and one rotary key, the same for all heads and on every GPU (DeepSeek-V2, arXiv:2405.04434,
  section 2.1).

As vLLM counts them: ``ModelConfig.get_total_num_kv_heads``, ``get_num_kv_heads`` and
``get_head_size`` (``vllm/config/model.py``), and the page sizes of its attention specs
(``vllm/v1/kv_cache_interface.py``). ``head_dim`` is ``hidden_size / num_attention_heads`` unless
the config says otherwise. Layers that ``layer_types`` lists as linear attention or state space keep
no tokens and are left out. Layers with a sliding window are counted whole: what a token takes while
it is in the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefixsim.errors import InputError
from prefixsim.hardware.model_config import ModelConfig

__all__ = ["DTYPES", "KVBytes", "kv_bytes_per_token"]

DTYPES = {
    "float32": 4,
    "float16": 2,
    "half": 2,
    "bfloat16": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "int8": 1,
}
"""Bytes of one element of the KV cache."""


@dataclass(frozen=True)
class KVBytes:
    """Size of a token in the KV cache of one GPU, and what it is made of.

    Attributes
    ----------
    per_token : int
        Bytes of all layers, on each GPU.
    attention : str
        ``mha``, ``gqa``, ``mqa`` or ``mla``.
    layers, kv_heads, head_dim : int
        Layers that keep tokens; KV heads on each GPU (1 for ``mla``); elements per head and layer.
    dtype : str
    tensor_parallel : int
    """

    per_token: int
    attention: str
    layers: int
    kv_heads: int
    head_dim: int
    dtype: str
    tensor_parallel: int

    def __str__(self) -> str:
        split = f", tensor parallel {self.tensor_parallel}" if self.tensor_parallel > 1 else ""
        return f"{self.per_token:,} bytes per token ({self.attention}, {self.dtype}{split})"


def kv_bytes_per_token(
    config: str | Path | Mapping[str, Any],
    *,
    dtype: str | None = None,
    tensor_parallel: int = 1,
) -> KVBytes:
    """Compute the bytes of KV cache that a token takes on each GPU.

    Parameters
    ----------
    config : path or mapping
        A ``config.json``, the folder it is in, or its content. The language model's part is found
        in ``text_config`` and the like.
    dtype : str, optional
        Of the KV cache, one of :data:`DTYPES`. Default: that of the model.
    tensor_parallel : int, optional
        GPUs that share the heads.

    Examples
    --------
    >>> llama_3_8b = {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
    ...               "num_key_value_heads": 8, "torch_dtype": "bfloat16"}
    >>> kv_bytes_per_token(llama_3_8b).per_token
    131072
    """
    if isinstance(config, Mapping):
        model = ModelConfig("model config", config)
    else:
        model = ModelConfig.read(config)
    where = model.where
    if tensor_parallel < 1:
        msg = f"tensor parallel {tensor_parallel}: give 1 or more GPUs"
        raise InputError(msg)
    kind = dtype or model.dtype()
    if kind not in DTYPES:
        msg = f"{where}: dtype {kind!r} is unknown, choose from {', '.join(DTYPES)}"
        raise InputError(msg)
    layers = model.layers()
    rank = model.optional("kv_lora_rank")
    if rank is not None:
        attention, heads, width = "mla", 1, rank + model.number("qk_rope_head_dim")
        elements = layers * width
    else:
        total, query_heads = model.kv_heads(), model.query_heads()
        heads = _share(where, total, tensor_parallel)
        width = model.head_dim(query_heads)
        attention = "mha" if total == query_heads else "mqa" if total == 1 else "gqa"
        elements = 2 * layers * heads * width
    return KVBytes(elements * DTYPES[kind], attention, layers, heads, width, kind, tensor_parallel)


def _share(where: str, heads: int, gpus: int) -> int:
    if heads % gpus and gpus % heads:
        msg = f"{where}: {heads} KV heads cannot be shared evenly by {gpus} GPUs"
        raise InputError(msg)
    return max(1, heads // gpus)

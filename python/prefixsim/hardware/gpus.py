"""Sizes and speeds of models and GPUs, from a model's ``config.json`` and data sheets.

Everything here is an estimate from published figures; ``docs/vllm.md`` gives the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from prefixsim._json import JsonObject
from prefixsim.errors import InputError
from prefixsim.hardware.kv_bytes import DTYPES, kv_bytes_per_token
from prefixsim.hardware.model_config import ModelConfig
from prefixsim.sizes import parse_bytes

__all__ = ["GPUS", "Gpu", "Model", "kv_blocks"]


@dataclass(frozen=True)
class Gpu:
    """Peak rates of one GPU, as its data sheet states them.

    Attributes
    ----------
    flops : float
        Dense 16-bit tensor FLOP/s, without sparsity.
    bandwidth : float
        Memory bandwidth in bytes/s.
    memory : float
        Memory in bytes.
    """

    flops: float
    bandwidth: float
    memory: float


GPUS: dict[str, Gpu] = {
    "t4": Gpu(65e12, 320e9, 16e9),
    "v100": Gpu(125e12, 900e9, 32e9),
    "a10g": Gpu(70e12, 600e9, 24e9),
    "l4": Gpu(121e12, 300e9, 24e9),
    "l40s": Gpu(362e12, 864e9, 48e9),
    "rtx4090": Gpu(165e12, 1008e9, 24e9),
    "a100-40gb": Gpu(312e12, 1555e9, 40e9),
    "a100-80gb": Gpu(312e12, 2039e9, 80e9),
    "h100-pcie": Gpu(756e12, 2000e9, 80e9),
    "h100": Gpu(989e12, 3350e9, 80e9),
    "h200": Gpu(989e12, 4800e9, 141e9),
    "b200": Gpu(2250e12, 8000e9, 180e9),
    "mi300x": Gpu(1307e12, 5300e9, 192e9),
}
"""Vendors' data sheets: dense BF16 (FP16 where there is no BF16) and SXM modules if not said."""


@dataclass(frozen=True)
class Model:
    """What a transformer costs, read from its ``config.json``.

    Attributes
    ----------
    name : str
    parameters : int
        Weights that are read in every step, the input embedding left out.
    active_parameters : int
        Weights that each token is multiplied with; fewer in mixtures of experts.
    head_parameters : int
        Weights of the output projection, used for sampled tokens only.
    attention_flops : int
        Per pair of a query and a token it attends to.
    kv_bytes_per_token : int
    weight_bytes : int
        Bytes per weight.
    max_model_len : int or None
    """

    name: str
    parameters: int
    active_parameters: int
    head_parameters: int
    attention_flops: int
    kv_bytes_per_token: int
    weight_bytes: int
    max_model_len: int | None

    @classmethod
    def read(cls, path: str | Path, *, kv_dtype: str | None = None) -> Model:
        """Read a ``config.json``, the one in a folder, or a model of the catalogue by its name.

        Raises
        ------
        InputError
            If the file is missing, not JSON, or lacks a size.
        """
        config = ModelConfig.read(path)
        merged = {**config.outer, **config.config}
        if "model_type" not in config.config:
            merged.pop("model_type", None)  # a wrapper's
        model = cls.from_config(merged, name=config.where, kv_dtype=kv_dtype)
        return replace(model, kv_bytes_per_token=kv_bytes_per_token(path, dtype=kv_dtype).per_token)

    @classmethod
    def from_config(
        cls, config: JsonObject, *, name: str = "config", kv_dtype: str | None = None
    ) -> Model:
        """Derive the figures from a configuration; names as in Llama, GPT-2 or OPT."""
        sizes = _Sizes(name, config)
        hidden = sizes("hidden_size", "n_embd", "d_model")
        layers = sizes("num_hidden_layers", "n_layer", "num_layers")
        heads = sizes("num_attention_heads", "n_head")
        kv_heads = sizes("num_key_value_heads", default=heads)
        head_dim = sizes("head_dim", default=hidden // heads)
        inner = sizes("intermediate_size", "ffn_dim", "n_inner", default=4 * hidden)
        vocabulary = sizes("vocab_size")
        weight_bytes = _dtype_bytes(config.get("torch_dtype") or config.get("dtype") or "bfloat16")

        attention = hidden * head_dim * (2 * heads + 2 * kv_heads)
        gated = str(config.get("model_type", "")) not in {
            "gpt2",
            "opt",
            "gpt_neox",
            "gptj",
            "bloom",
        }
        matrices = 3 if gated else 2
        experts = sizes("num_local_experts", "num_experts", "n_routed_experts", default=1)
        used = sizes("num_experts_per_tok", default=1) if experts > 1 else 1
        expert_inner = sizes("moe_intermediate_size", default=inner) if experts > 1 else inner
        shared = sizes("n_shared_experts", default=0, minimum=0) if experts > 1 else 0
        expert = matrices * hidden * expert_inner
        head = hidden * vocabulary

        length = config.get("max_position_embeddings") or config.get("n_positions")
        return cls(
            name=name,
            parameters=layers * (attention + expert * (experts + shared)) + head,
            active_parameters=layers * (attention + expert * (used + shared)),
            head_parameters=head,
            attention_flops=4 * layers * heads * head_dim,
            kv_bytes_per_token=kv_bytes_per_token(config, dtype=kv_dtype).per_token,
            weight_bytes=weight_bytes,
            max_model_len=length if isinstance(length, int) else None,
        )


class _Sizes(ModelConfig):
    """Sizes by any of their names, or a default."""

    def __call__(self, *names: str, default: int | None = None, minimum: int = 1) -> int:
        value = self.optional(*names, minimum=minimum)
        if value is not None:
            return value
        if default is not None:
            return default
        return self.number(*names, remedy="is this the config.json of a language model?")


def _dtype_bytes(dtype: str) -> int:
    known = str(dtype).removeprefix("torch.")
    if known not in DTYPES:
        msg = f"unknown data type {dtype!r}, choose one of {', '.join(DTYPES)}"
        raise InputError(msg)
    return DTYPES[known]


def kv_blocks(
    memory: str | int, config: str | Path, block_size: int, tensor_parallel: int = 1
) -> int:
    """Return how many blocks fit in the memory that each GPU sets aside for KV.

    One of them is the null block.
    """
    per_token = kv_bytes_per_token(config, tensor_parallel=tensor_parallel).per_token
    blocks = parse_bytes(memory) // (block_size * per_token)
    if blocks < 2:
        msg = (
            f"{memory} of KV cache hold {blocks} blocks of {block_size} tokens of {config} "
            f"({per_token:,} bytes per token): give more memory"
        )
        raise InputError(msg)
    return blocks

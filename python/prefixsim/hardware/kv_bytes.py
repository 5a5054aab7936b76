"""Bytes of KV cache that a model's tokens and requests take, from its ``config.json``.

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
the config says otherwise.

Only layers of full attention grow with every token. A layer with a sliding window or a chunk keeps
at most that many tokens of a request, and a recurrent layer one state: these are bytes per
request. In a model whose every layer has the window, a token takes its bytes in all of them while
it is in the window. Which layer is what: :mod:`prefixsim.hardware.layer_kinds`; the states:
:mod:`prefixsim.hardware.states`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefixsim.errors import InputError
from prefixsim.hardware.layer_kinds import LayerKinds, layer_kinds
from prefixsim.hardware.layers import KINDS, Kind, Layer
from prefixsim.hardware.model_config import ModelConfig
from prefixsim.hardware.states import State, state_of

__all__ = ["DTYPES", "KVBytes", "Share", "kv_bytes_per_token"]

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
class Share:
    """What the layers of one kind keep, on each GPU.

    Attributes
    ----------
    kind : str
    layers : int
    token_bytes : int
        Bytes of a token in all of them; 0 for states.
    span : int or None
        Tokens of the window or of the chunk.
    state_bytes : int or None
        Bytes of a request's state in all of them; ``None`` where the configuration lacks its sizes.
    """

    kind: Kind
    layers: int
    token_bytes: int
    span: int | None
    state_bytes: int | None

    @property
    def request_bytes(self) -> int | None:
        """Bytes of a long request that do not grow with it; ``None`` if they are not known."""
        return self.state_bytes if self.kind == "mamba" else self.token_bytes * (self.span or 0)

    def __str__(self) -> str:
        span = "" if self.span is None else f" of {self.span:,} tokens"
        return f"{self.layers} layers of {KINDS[self.kind]}{span}"


@dataclass(frozen=True)
class KVBytes:
    """Size of the KV cache of one GPU: bytes per token and per request, and what they are made of.

    Attributes
    ----------
    per_token : int
        Bytes that each token adds, on each GPU.
    attention : str
        ``mha``, ``gqa``, ``mqa`` or ``mla``.
    layers, kv_heads, head_dim : int
        Layers that keep each token; KV heads on each GPU (1 for ``mla``); elements per head and
        layer.
    dtype : str
    tensor_parallel : int
    specs : tuple of Layer
        Each layer that keeps something, in the order of the model.
    shares : tuple of Share
        The same by kind.
    assumed : tuple of str
        What the configuration left open, and which field told the layers apart.
    """

    per_token: int
    attention: str
    layers: int
    kv_heads: int
    head_dim: int
    dtype: str
    tensor_parallel: int
    specs: tuple[Layer, ...] = ()
    shares: tuple[Share, ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def grows(self) -> Share:
        """The layers that :attr:`per_token` counts."""
        return self.shares[0]

    @property
    def per_request(self) -> int | None:
        """Bytes of a long request beside those of its tokens; ``None`` if they are not known."""
        known = [share.request_bytes for share in self.shares[1:]]
        return None if None in known else sum(part or 0 for part in known)

    def __str__(self) -> str:
        split = f", tensor parallel {self.tensor_parallel}" if self.tensor_parallel > 1 else ""
        told = f"{self.per_token:,} bytes per token ({self.attention}, {self.dtype}{split})"
        if len(self.shares) < 2:
            return told
        rest = " and ".join(str(share) for share in self.shares[1:])
        size = "an unknown size" if self.per_request is None else f"{self.per_request:,} bytes"
        return f"{told} in {self.grows}; besides up to {size} per request in {rest}"


def kv_bytes_per_token(
    config: str | Path | Mapping[str, object],
    *,
    dtype: str | None = None,
    tensor_parallel: int = 1,
    num_speculative_tokens: int = 0,
) -> KVBytes:
    """Compute the bytes of KV cache that a token, and a request, take on each GPU.

    Parameters
    ----------
    config : path or mapping
        A ``config.json``, the folder it is in, its content, or a name of
        :mod:`prefixsim.hardware.catalogue`. The language model's part is found in ``text_config``
        and the like.
    dtype : str, optional
        Of the KV cache, one of :data:`DTYPES`. Default: that of the model.
    tensor_parallel : int, optional
        GPUs that share the heads.
    num_speculative_tokens : int, optional
        Draft tokens of a step, for which recurrent layers keep room.

    Raises
    ------
    InputError
        If the configuration is missing or damaged, or which layer is what cannot be told.

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
    kinds = layer_kinds(model)
    rank = model.optional("kv_lora_rank")
    if rank is not None:
        attention, heads, width = "mla", 1, rank + model.number("qk_rope_head_dim")
        elements = width
    else:
        total, query_heads = model.kv_heads(), model.query_heads()
        heads = _share(where, total, tensor_parallel)
        width = model.head_dim(query_heads)
        attention = "mha" if total == query_heads else "mqa" if total == 1 else "gqa"
        elements = 2 * width
    layer = Layer("full", heads, elements, DTYPES[kind])
    state, stated = _state(model, kinds, tensor_parallel, num_speculative_tokens)
    specs = _specs(kinds, layer, state)
    shares = _shares(where, specs)
    assumed = _assumed(model, dtype, kinds, state, stated)
    return KVBytes(
        per_token=shares[0].token_bytes,
        attention=attention,
        layers=shares[0].layers,
        kv_heads=heads,
        head_dim=width,
        dtype=kind,
        tensor_parallel=tensor_parallel,
        specs=specs,
        shares=shares,
        assumed=assumed,
    )


def _share(where: str, heads: int, gpus: int) -> int:
    if heads % gpus and gpus % heads:
        msg = f"{where}: {heads} KV heads cannot be shared evenly by {gpus} GPUs"
        raise InputError(msg)
    return max(1, heads // gpus)


def _state(
    model: ModelConfig, kinds: LayerKinds, gpus: int, drafts: int
) -> tuple[State | None, str]:
    """Return the state of a recurrent layer and its data type, if there is one."""
    if not any("mamba" in kept for kept in kinds.kinds):
        return None, ""
    own = model.dtype()
    nested = model.config.get("linear_attn_config")
    named = (
        "float32"
        if isinstance(nested, dict)
        else next(
            (
                model.config[n]
                for n in ("mamba_ssm_cache_dtype", "mamba_ssm_dtype")
                if n in model.config
            ),
            own,
        )
    )
    for name in (own, named):
        if name not in DTYPES:
            msg = f"{model.where}: dtype {name!r} is unknown, choose from {', '.join(DTYPES)}"
            raise InputError(msg)
    found = state_of(
        model, model_bytes=DTYPES[own], state_bytes=DTYPES[named], gpus=gpus, drafts=drafts
    )
    return found, named


def _specs(kinds: LayerKinds, layer: Layer, state: State | None) -> tuple[Layer, ...]:
    tensors, alignment = ((), None) if state is None else state[1:]
    by_kind = {
        "full": layer,
        "sliding_window": Layer(
            "sliding_window", layer.heads, layer.width, layer.element_bytes, kinds.span
        ),
        "chunked_local": Layer(
            "chunked_local", layer.heads, layer.width, layer.element_bytes, kinds.span
        ),
        "mamba": Layer("mamba", states=tensors, checkpoint_alignment=alignment),
    }
    return tuple(by_kind[kind] for kept in kinds.kinds for kind in kept)


def _shares(where: str, specs: tuple[Layer, ...]) -> tuple[Share, ...]:
    """Sum layers by kind; those that grow with each token come first."""
    found = []
    for kind in KINDS:
        own = [spec for spec in specs if spec.kind == kind]
        if own:
            tokens = sum(spec.token_bytes for spec in own)
            known = all(spec.states for spec in own) or kind != "mamba"
            states = sum(spec.state_bytes for spec in own) if known else None
            found.append(Share(kind, len(own), tokens, own[0].span, states))
    if not found or found[0].kind == "mamba":
        msg = f"{where}: no layer keeps tokens, so there is no prefix to cache by the token"
        raise InputError(msg)
    return tuple(found)


def _assumed(
    model: ModelConfig, dtype: str | None, kinds: LayerKinds, state: State | None, stated: str
) -> tuple[str, ...]:
    told = []
    if kinds.said_by:
        told.append(f"layers: {kinds.said_by}")
    if dtype is None and not model.says_dtype():
        told.append("the config names no data type, float16 assumed")
    if state is not None:
        told.append(f"{state.name} with a state in {stated}")
    return tuple(told)

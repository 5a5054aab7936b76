"""Which layer of a model is what, from the ways in which public configurations say it.

The first of these that a configuration has decides, in this order; each is read as the model's own
code reads it (``configuration_*.py`` and ``modeling_*.py`` in transformers, and vLLM's models):

=============================  =========================================================
``layer_types``                a word for each layer (transformers 4.53 and newer)
``layers_block_type``          the same for Nemotron-H, Bamba and Jamba
``hybrid_override_pattern``    a letter for each layer of Nemotron-H: ``M*-E``
``attn_type_list``             MiniMax: 1 for full attention, 0 for linear
``linear_attn_config``         Kimi Linear: ``full_attn_layers``, counted from 1
``full_attn_idxs``             LFM2: the layers with attention, the others are convolutions
``attn_layer_indices``         Bamba: the layers with attention
``attn_layer_period``          Jamba: every so many layers, from ``attn_layer_offset``
``full_attention_interval``    Qwen3-Next: the last of every so many layers
``attention_chunk_size``       Llama 4: layers without rotary embedding are full attention
                               (``no_rope_layers``, else every fourth)
``sliding_window_pattern``     Gemma 3, Cohere 2: the last of every so many layers is full
                               attention; EXAONE 4: a pattern of letters, ``LLLG``
``sliding_window``             Gemma 2, gpt-oss: every other layer has it, from the first
``use_sliding_window``         Qwen2, Qwen3: layers from ``max_window_layers`` on have it
``sliding_window`` alone       Mistral, Phi-3, StarCoder2: every layer has it
=============================  =========================================================

Layers without a cache of their own (``num_kv_shared_layers`` of Gemma 3n) keep nothing. A
``model_type`` that is not listed here, or a field that says something of layers and has no rule
here, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from prefixsim.errors import InputError
from prefixsim.hardware.layers import Kind
from prefixsim.hardware.model_config import ModelConfig

__all__ = ["LayerKinds", "layer_kinds"]

_WORDS: dict[str, Kind | None] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding_window",
    "chunked_attention": "chunked_local",
    "linear_attention": "mamba",
    "mamba": "mamba",
    "ssm": "mamba",
    "recurrent": "mamba",
    "conv": "mamba",
    "moe": None,
    "mlp": None,
}
_LETTERS: dict[str, Kind | None] = {"M": "mamba", "*": "full", "-": None, "E": None}

# Every layer attends to everything, unless a field of the table above says otherwise.
_PLAIN = frozenset((
    "apertus", "arcee", "baichuan", "bloom", "chatglm", "cohere", "deepseek_v2", "deepseek_v3",
    "dots1", "ernie4_5", "ernie4_5_moe", "exaone", "falcon", "gemma", "glm", "glm4", "glm4_moe",
    "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "granite", "granitemoe", "helium", "internlm2",
    "kimi_k2", "llama", "mimo", "minimax_m2", "ministral", "mistral", "mixtral", "nemotron",
    "olmo", "olmo2", "olmoe", "opt", "persimmon", "phi", "phi3", "phimoe", "qwen2", "qwen2_5_vl",
    "qwen2_5_vl_text", "qwen2_moe", "qwen2_vl", "qwen2_vl_text", "qwen3", "qwen3_moe", "qwen3_vl",
    "qwen3_vl_moe", "qwen3_vl_moe_text", "qwen3_vl_text", "seed_oss", "smollm3", "stablelm",
    "starcoder2",
))  # fmt: skip
_ALTERNATING = frozenset(("gemma2", "gpt_oss"))
_PATTERNS = {"gemma3": 6, "gemma3_text": 6, "cohere2": 4}
_CHUNKED = frozenset(("llama4", "llama4_text"))
_INTERVALS = {
    "qwen3_next": 4,
    "qwen3_5": 4,
    "qwen3_5_text": 4,
    "qwen3_5_moe": 4,
    "qwen3_5_moe_text": 4,
}
# These must have a field that says which layer is what.
_LISTED = frozenset((
    "bamba", "exaone4", "falcon_h1", "gemma3n", "gemma3n_text", "granitemoehybrid", "jamba",
    "kimi_linear", "lfm2", "lfm2_moe", "minimax", "minimax_m1", "minimax_text_01", "nemotron_h",
    "olmo3",
))  # fmt: skip
_KNOWN = _PLAIN | _ALTERNATING | _PATTERNS.keys() | _CHUNKED | _INTERVALS.keys() | _LISTED
# use_sliding_window is off where these do not say it.
_WINDOW_OFF = frozenset(name for name in _PLAIN if name.startswith("qwen") or name == "mimo")
# Fields of models whose layers differ in ways that no rule here reads.
_FOREIGN = (
    "hybrid_layer_pattern",
    "compress_ratios",
    "block_configs",
    "index_topk",
    "index_head_dim",
    "attention_other_setting",
    "global_head_dim",
    "sparse_attention_config",
)


@dataclass(frozen=True)
class LayerKinds:
    """What each layer keeps.

    Attributes
    ----------
    kinds : tuple of tuple of str
        For each layer what it keeps: nothing, one kind, or two where attention and a state run side
        by side (Falcon-H1).
    span : int or None
        Tokens of the window or of the chunk.
    said_by : str
        The field that told it; empty where every layer is full attention.
    """

    kinds: tuple[tuple[Kind, ...], ...]
    span: int | None
    said_by: str


_Found = tuple[Sequence[Kind | None], str]


def layer_kinds(model: ModelConfig) -> LayerKinds:
    """Read what each layer of a model keeps.

    Raises
    ------
    InputError
        If the architecture is not known, or fields are missing or do not fit together.

    Examples
    --------
    >>> config = {"num_hidden_layers": 8, "full_attention_interval": 4}
    >>> found = layer_kinds(ModelConfig("config.json", config))
    >>> found.kinds.count(("full",)), found.kinds.count(("mamba",)), found.said_by
    (2, 6, 'full_attention_interval 4')
    """
    architecture = _architecture(model)
    if architecture == "falcon_h1":
        return LayerKinds((("mamba", "full"),) * model.layer_count(), None, "as Falcon-H1")
    found = next((told for rule in _RULES if (told := rule(model, architecture))), None)
    if found is None:
        if architecture in _LISTED:
            msg = (
                f"{model.where}: a model of type {architecture!r} without a field that says which "
                "layer is what (layer_types and the like), give the bytes per token instead"
            )
            raise InputError(msg)
        found = ["full"] * model.layer_count(), ""
    kinds, said_by = found
    shared = min(model.optional("num_kv_shared_layers", minimum=0) or 0, len(kinds))
    if shared:
        kinds = [*kinds[: len(kinds) - shared], *[None] * shared]
        said_by += f", num_kv_shared_layers {shared}"
    kept = tuple(() if kind is None else (kind,) for kind in kinds)
    return LayerKinds(kept, _span(model, kinds), said_by)


def _architecture(model: ModelConfig) -> str | None:
    """Return the language model's type, if it is said; refuse what is not known."""
    for name in _FOREIGN:
        if model.config.get(name) not in (None, 0, [], {}, False):
            msg = (
                f"{model.where}: {name} says something of the cache that has no rule here, "
                "give the bytes per token instead"
            )
            raise InputError(msg)
    named = model.config.get("model_type")
    if named is None and model.outer.get("model_type") in _KNOWN:
        named = model.outer["model_type"]  # of a wrapper whose name says it of the model inside
    if named is None:
        return None
    if named not in _KNOWN:
        msg = (
            f"{model.where}: nothing is known here of the layers of a model of type {named!r}, "
            "give the bytes per token instead"
        )
        raise InputError(msg)
    return str(named)


def _span(model: ModelConfig, kinds: Sequence[Kind | None]) -> int | None:
    for kind, field in (
        ("sliding_window", "sliding_window"),
        ("chunked_local", "attention_chunk_size"),
    ):
        if kind in kinds:
            return model.number(field)
    return None


def _word_list(model: ModelConfig, architecture: str | None) -> _Found | None:
    for name in ("layer_types", "layers_block_type"):
        words = model.config.get(name)
        if not isinstance(words, list) or not words:
            continue
        _check_length(model, name, words)
        unknown = next((word for word in words if word not in _WORDS), None)
        if unknown is not None:
            msg = (
                f"{model.where}: {name} has {unknown!r}, which is none of {', '.join(_WORDS)}: "
                "give the bytes per token instead"
            )
            raise InputError(msg)
        return [_WORDS[word] for word in words], name
    return None


def _letters(model: ModelConfig, architecture: str | None) -> _Found | None:
    pattern = model.config.get("hybrid_override_pattern")
    if not isinstance(pattern, str) or not pattern:
        return None
    _check_length(model, "hybrid_override_pattern", pattern)
    if set(pattern) - _LETTERS.keys():
        msg = f"{model.where}: hybrid_override_pattern has other letters than M, *, - and E"
        raise InputError(msg)
    return [_LETTERS[letter] for letter in pattern], "hybrid_override_pattern"


def _indices(model: ModelConfig, architecture: str | None) -> _Found | None:
    """Read a list of the layers that are full attention."""
    ones = model.config.get("attn_type_list")
    if isinstance(ones, list) and ones:
        _check_length(model, "attn_type_list", ones)
        return ["full" if one == 1 else "mamba" for one in ones], "attn_type_list"
    nested = model.config.get("linear_attn_config")
    lists = [
        ("full_attn_layers", nested.get("full_attn_layers") if isinstance(nested, dict) else None),
        ("full_attn_idxs", model.config.get("full_attn_idxs")),
        ("attn_layer_indices", model.config.get("attn_layer_indices")),
    ]
    for name, places in lists:
        if isinstance(places, list) and places:
            first = 1 if name == "full_attn_layers" else 0
            full = {place - first for place in places if isinstance(place, int)}
            return ["full" if i in full else "mamba" for i in range(model.layer_count())], name
    return None


def _periods(model: ModelConfig, architecture: str | None) -> _Found | None:
    kinds: list[Kind | None]
    period = model.optional("attn_layer_period")
    if period is not None:
        offset = model.optional("attn_layer_offset", minimum=0) or 0
        kinds = ["full" if i % period == offset else "mamba" for i in range(model.layer_count())]
        return kinds, f"attn_layer_period {period}, attn_layer_offset {offset}"
    every = model.optional("full_attention_interval") or _INTERVALS.get(architecture or "")
    if every is not None:
        return _last_of(every, "mamba", model), f"full_attention_interval {every}"
    return None


def _chunks(model: ModelConfig, architecture: str | None) -> _Found | None:
    chunk = model.optional("attention_chunk_size")
    if architecture in _CHUNKED and "attention_chunk_size" not in model.config:
        chunk = model.number("attention_chunk_size")
    if chunk is None or architecture not in (*_CHUNKED, None):
        return None
    rotary = model.config.get("no_rope_layers")
    if isinstance(rotary, list) and rotary:
        _check_length(model, "no_rope_layers", rotary)
        kinds: list[Kind | None] = ["chunked_local" if one else "full" for one in rotary]
        return kinds, f"no_rope_layers, attention_chunk_size {chunk:,}"
    every = model.optional("no_rope_layer_interval") or 4
    return _last_of(every, "chunked_local", model), f"every {every}th layer, as Llama 4"


def _windows(model: ModelConfig, architecture: str | None) -> _Found | None:
    window = model.optional("sliding_window")
    has_windows = architecture in _ALTERNATING or architecture in _PATTERNS
    if has_windows and "sliding_window" not in model.config:
        window = model.number("sliding_window")
    flag = model.config.get("use_sliding_window")
    off = flag is False or (flag is None and architecture in _WINDOW_OFF)
    if window is None or off:
        return None
    count = model.layer_count()
    patterned = _pattern(model, architecture)
    if patterned is not None:
        return patterned
    if architecture in _ALTERNATING:
        kinds: list[Kind | None] = ["full" if i % 2 else "sliding_window" for i in range(count)]
        return kinds, f"every other layer, as {architecture}"
    first = model.optional("max_window_layers", minimum=0)
    if first is not None:
        kinds = ["sliding_window" if i >= first else "full" for i in range(count)]
        return kinds, f"max_window_layers {first}"
    return ["sliding_window"] * count, f"sliding_window {window:,} in every layer"


def _pattern(model: ModelConfig, architecture: str | None) -> _Found | None:
    pattern = model.config.get(
        "sliding_window_pattern", model.config.get("_sliding_window_pattern")
    )
    if isinstance(pattern, str) and pattern and not set(pattern) - set("LG"):
        count = model.layer_count()
        letters = (pattern * count)[:count]
        kinds: list[Kind | None] = ["sliding_window" if one == "L" else "full" for one in letters]
        return kinds, f"sliding_window_pattern {pattern}"
    every = pattern if _is_count(pattern) else _PATTERNS.get(architecture or "")
    if every is None:
        return None
    return _last_of(every, "sliding_window", model), f"sliding_window_pattern {every}"


_Rule = Callable[[ModelConfig, str | None], _Found | None]
_RULES: tuple[_Rule, ...] = (_word_list, _letters, _indices, _periods, _chunks, _windows)


def _last_of(every: int, others: Kind, model: ModelConfig) -> list[Kind | None]:
    return [others if (i + 1) % every else "full" for i in range(model.layer_count())]


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_length(model: ModelConfig, name: str, listed: Sequence[object]) -> None:
    count = model.layer_count(default=len(listed))
    if len(listed) != count:
        msg = f"{model.where}: {name} is of {len(listed)} layers, the model has {count}"
        raise InputError(msg)

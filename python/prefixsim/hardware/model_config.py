"""The configuration of a model as Hugging Face writes it: one reader for every figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from prefixsim._json import JsonFields
from prefixsim.errors import InputError
from prefixsim.hardware.catalogue import find_model, nearest_model

__all__ = ["ModelConfig"]

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")


def _read(path: Path) -> tuple[str, JsonFields]:
    if not path.exists():
        known = find_model(str(path))
        if known is not None:
            return str(path), known
        close = None if path.suffix == ".json" else nearest_model(str(path))
        hint = f" and no model of that name, did you mean {close}?" if close else ""
        msg = f"{path}: no such file{hint}"
        raise InputError(msg)
    if path.is_dir():
        path /= "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{path}: no such file"
        raise InputError(msg) from None
    except RecursionError:
        msg = f"{path}: not JSON that can be read, nested too deeply"
        raise InputError(msg) from None
    except ValueError as error:
        msg = f"{path}: not JSON ({error})"
        raise InputError(msg) from None
    if not isinstance(config, dict):
        msg = f"{path}: not a model's config.json, which is a JSON object"
        raise InputError(msg)
    return str(path), config


class ModelConfig:
    """A model's ``config.json``: lookup under the names that different models use.

    The language model's part may be in ``text_config`` and the like.

    Parameters
    ----------
    where : str
        Name for messages.
    config : mapping
    """

    def __init__(self, where: str, config: JsonFields) -> None:
        self.where = where
        self.outer = config
        for name in _NESTED:
            inner = config.get(name)
            if isinstance(inner, Mapping) and not any(key in config for key in _LAYERS):
                config = inner
        self.config = config

    @classmethod
    def read(cls, path: str | Path) -> ModelConfig:
        """Read a ``config.json``, or the one in a folder, or a model of the catalogue by its name.

        Raises
        ------
        InputError
            If the file is missing, not JSON, or no object.
        """
        where, config = _read(Path(path))
        return cls(where, config)

    def optional(self, *names: str, minimum: int = 1) -> int | None:
        """Return a whole number of at least ``minimum``, if there is one under a name."""
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                needed = "a positive integer" if minimum == 1 else f"an integer from {minimum}"
                msg = f"{self.where}: {name} is {value!r}, {needed} is needed"
                raise InputError(msg)
            return value
        return None

    def number(self, *names: str, remedy: str = "give the bytes per token instead") -> int:
        """Return a positive whole number that has to be there."""
        value = self.optional(*names)
        if value is None:
            msg = f"{self.where}: has no {names[0]}, {remedy}"
            raise InputError(msg)
        return value

    def layer_count(self, *, default: int | None = None) -> int:
        """Layers of the language model."""
        return self.optional(*_LAYERS) or default or self.number(*_LAYERS)

    def query_heads(self) -> int:
        """Query heads of all GPUs together."""
        return self.number(*_HEADS)

    def kv_heads(self) -> int:
        """KV heads of all GPUs together."""
        # Falcon's first models share one KV head and keep num_kv_heads only for the later ones.
        if self.config.get("multi_query") and not self.config.get("new_decoder_architecture"):
            return 1
        return self.optional(*_KV_HEADS) or self.number(*_HEADS)

    def head_dim(self, heads: int) -> int:
        """Elements per head, of ``heads`` query heads."""
        explicit = self.optional("head_dim", "kv_channels")
        return explicit or self.number(*_HIDDEN) // heads

    def dtype(self) -> str:
        """Return the data type of the weights; float16 if the config does not say."""
        return self._said_dtype() or "float16"

    def says_dtype(self) -> bool:
        """Whether the config names the data type of the weights."""
        return self._said_dtype() is not None

    def _said_dtype(self) -> str | None:
        for config in (self.config, self.outer):
            for name in ("dtype", "torch_dtype"):
                if isinstance(config.get(name), str):
                    return str(config[name]).removeprefix("torch.")
        return None

"""What was taken from a model's configuration, said on standard error."""

from __future__ import annotations

import sys

from prefixsim._json import JsonFields
from prefixsim._printable import printable
from prefixsim.errors import InputError

__all__ = ["tell_model"]


def tell_model(given: JsonFields) -> None:
    """Say what a token takes in each model, where that is not the same in every layer.

    Also said: what the configuration left open. A model of full attention whose configuration says
    everything needs no words.

    Parameters
    ----------
    given : mapping
        ``model_config``, ``kv_cache_dtype`` and ``tensor_parallel``, or a list of each.
    """
    from prefixsim.hardware.kv_bytes import kv_bytes_per_token
    from prefixsim.study.grid import listed

    if given.get("bytes_per_token") is not None:
        return
    dtype = listed(given.get("kv_cache_dtype"))[0]
    gpus = listed(given.get("tensor_parallel"))[0] or 1
    for path in dict.fromkeys(listed(given.get("model_config"))):
        if path is None:
            continue
        try:
            sizes = kv_bytes_per_token(path, dtype=dtype, tensor_parallel=gpus)
        except InputError:
            return  # the command says it, if it needs the model
        if sizes.assumed:
            parts = [f"{path}: {sizes}", *sizes.assumed]
            if len(sizes.shares) > 1:
                parts.append(
                    "where groups are not simulated, sizes in bytes are of the tokens alone"
                )
            told = "; ".join(parts)
            sys.stderr.write(f"prefixsim: {printable(told)}\n")

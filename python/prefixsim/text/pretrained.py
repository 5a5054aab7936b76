"""Loading a tokenizer: embedded, from a folder, or from the model hub."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from prefixsim._extras import require
from prefixsim.errors import InputError
from prefixsim.text.remote_code import remote_code_allowed

__all__ = ["DEMO_MODEL", "load_tokenizer"]

DEMO_MODEL = "demo"
"""Names the embedded tokenizer wherever a model is asked for."""

_DEMO_FOLDER = Path(__file__).parent / "demo_tokenizer"
_HUB_TIMEOUT_S = 5.0
_ADVICE = f"give a local folder with a tokenizer, or --model {DEMO_MODEL} for the embedded one"

if hasattr(os, "register_at_fork"):  # the threads of the tokenizers do not survive a fork
    os.register_at_fork(
        after_in_child=lambda: os.environ.__setitem__("TOKENIZERS_PARALLELISM", "false")
    )


Tokenizer: TypeAlias = Any
"""A tokenizer of ``transformers``, which has no types of its own here: it is loaded when needed."""


def load_tokenizer(model: str) -> Tokenizer:
    """Return the ``transformers`` tokenizer that ``model`` names.

    Parameters
    ----------
    model : str
        ``demo``, a folder, or a name on the hub (looked for in the local cache first). Python code
        that it holds is not run, unless :func:`~prefixsim.text.remote_code.remote_code` allows it.

    Raises
    ------
    InputError
        In one line, and within seconds if there is no network.
    """
    if model == DEMO_MODEL:
        return _from_folder(_DEMO_FOLDER)
    folder = Path(model or " ").expanduser()
    if folder.is_dir():
        return _from_folder(folder)
    if folder.exists():
        msg = f"{model}: is a file, {_ADVICE}"
        raise InputError(msg)
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or not model:
        msg = f"{model or 'tokenizer'}: no such folder, {_ADVICE}"
        raise InputError(msg)
    return _from_hub(model)


def _from_folder(folder: Path) -> Tokenizer:
    with _quiet():
        loader = require("transformers", extra="text").AutoTokenizer
        try:
            return _pretrained(loader, str(folder), local_files_only=True)
        except InputError:
            raise
        except Exception as error:
            reason = _first_line(error)
            msg = f"{folder}: no tokenizer that transformers can load ({reason}), {_ADVICE}"
            raise InputError(msg) from None


def _from_hub(model: str) -> Tokenizer:
    with _quiet():
        loader = require("transformers", extra="text").AutoTokenizer
        try:  # downloaded earlier: no network needed
            return _pretrained(loader, model, local_files_only=True)
        except InputError:
            raise
        except Exception:
            pass
        _probe_hub(model)
        try:
            return _pretrained(loader, model)
        except InputError:
            raise
        except Exception as error:
            msg = f"tokenizer '{model}' cannot be loaded ({_first_line(error)}), {_ADVICE}"
            raise InputError(msg) from None


def _pretrained(loader: Any, name: str, **options: object) -> Tokenizer:
    """Load a tokenizer; the library never gets to ask whether code that comes with it may run."""
    allowed = remote_code_allowed()
    try:
        loaded: Tokenizer = loader.from_pretrained(name, trust_remote_code=allowed, **options)
        return loaded
    except Exception as error:
        if not allowed and "trust_remote_code" in str(error):
            msg = (
                f"{name}: the tokenizer is Python code of its own and was not run; read its files, "
                "then pass --trust-remote-code"
            )
            raise InputError(msg) from None
        raise


def _probe_hub(model: str) -> None:
    """Ask the hub for the model once, without the client's minute of retries."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    if constants.HF_HUB_OFFLINE:
        msg = (
            f"tokenizer '{model}' is not in the local cache and the hub is switched off, {_ADVICE}"
        )
        raise InputError(msg)
    try:
        HfApi().model_info(model, timeout=_HUB_TIMEOUT_S)
    except (HFValidationError, RepositoryNotFoundError):
        msg = f"tokenizer '{model}' is unknown to the model hub, {_ADVICE}"
        raise InputError(msg) from None
    except GatedRepoError:
        msg = f"tokenizer '{model}' needs a login to the model hub, {_ADVICE}"
        raise InputError(msg) from None
    except Exception:
        state = "is not in the local cache and the hub cannot be reached"
        msg = f"tokenizer '{model}' {state}, {_ADVICE}"
        raise InputError(msg) from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' own messages (no PyTorch, retries) off the terminal, use all cores."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub", "httpx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # In a notebook, about a bar that is not shown.
            warnings.filterwarnings("ignore", message="IProgress not found")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""The contract of an engine: settings, capabilities, and one function.

An engine is the rules by which a cache decides hits, allocation and eviction. It declares

* a frozen dataclass of settings, derived from :class:`EngineSettings`, whose fields are made with
  :func:`prefixsim.settings.setting`;
* its :class:`Capabilities`;
* a function ``run(forest, settings) -> Outcome``.

From these alone come the keyword arguments of :func:`prefixsim.replay`, the options of every
command that takes an engine, JSON schema, provenance, and the tables of the documentation.

What the caller guarantees: ``settings.tokens_per_block`` is a multiple of the forest's tokens per
id; ``settings.blocks`` is a number of blocks or ``None``; ``settings.cache_outputs`` is
``True`` or ``False`` and the forest was compiled with it; the requests are in order of time.

What an engine must do: return one row per request; hits are leading tokens of the prompt; the same
input gives the same outcome; refuse with :class:`~prefixsim.errors.InputError`, in one line, what
it has no rule for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from prefixsim._json import JsonObject
from prefixsim.engines.cache_size import DEFAULT_BLOCK_SIZE, read_cache_size, token_bytes
from prefixsim.own_policies import Policy
from prefixsim.settings import options_of, setting
from prefixsim.sizes import Size

if TYPE_CHECKING:
    from prefixsim.engines.outcome import Outcome
    from prefixsim.forest import Forest

__all__ = [
    "MOST",
    "CacheBlocks",
    "CacheBytes",
    "Capabilities",
    "Engine",
    "EngineSettings",
    "Record",
    "Run",
    "Totals",
]

MOST = 2**32 - 2
"""The core counts blocks and tokens of one request in 32 bits."""

# What every engine says of itself in ``config``, with the value of those that have no such setting.
_EVERYWHERE: JsonObject = {
    "block_size": None,
    "num_blocks": None,
    "enable_caching": True,
    "concurrency": 1,
    "last_token_rule": True,
    "cache_outputs": False,
    "partial_blocks": False,
}
# These have become a number of blocks by the time an engine runs.
_MEMORY = ("bytes_per_token", "model_config", "kv_cache_dtype", "tensor_parallel")


@dataclass(frozen=True)
class CacheBlocks:
    """Cache

    Attributes
    ----------
    block_size : int or None
        Tokens per block.
    num_blocks : int, Size or None
        Size of the cache as the engine counts it; ``None``: unbounded.
    """  # noqa: D400 - the title of a panel of the help

    block_size: int | None = setting(
        None,
        help="Tokens per block.",
        unit="tokens",
        least=1,
        most=MOST,
        shown_default="16; for hash ids, the tokens each stands for",
    )
    num_blocks: int | Size | None = setting(
        None,
        help="Size of the cache: blocks (5000, 20k), bytes (40GB, needs --model-config or "
        "--bytes-per-token), or 'inf'.",
        unit="blocks",
        least=1,
        most=MOST,
        metavar="SIZE",
        read=read_cache_size,
        none="inf",
        shown_default="inf",
    )


@dataclass(frozen=True)
class CacheBytes:
    """Bytes of a cache

    Attributes
    ----------
    bytes_per_token, model_config, kv_cache_dtype, tensor_parallel
        What a size in bytes is divided by.
    """  # noqa: D400 - the title of a panel of the help

    bytes_per_token: float | None = setting(
        None,
        help="KV cache bytes of a token, for sizes in bytes.",
        unit="bytes",
        least=1e-9,
        metavar="N",
    )
    model_config: Path | None = setting(
        None,
        help="The model's config.json, or a name like qwen3-8b, for sizes in bytes.",
        metavar="FILE",
    )
    kv_cache_dtype: str | None = setting(
        None,
        help="Data type of the KV cache, like 'fp8'.",
        flag=("--kv-cache-dtype", "--dtype"),
        metavar="NAME",
        shown_default="the model's",
    )
    tensor_parallel: int = setting(
        1, help="GPUs that share the KV heads; sizes in bytes are per GPU.", unit="GPUs", least=1
    )

    @property
    def token_bytes(self) -> float | None:
        """KV bytes of a token, as given or computed from the model; ``None`` if nobody says.

        Raises
        ------
        SettingError
            If both are given, or the model's configuration is not usable.
        """
        return token_bytes(
            self.bytes_per_token, self.model_config, self.kv_cache_dtype, self.tensor_parallel
        )


@dataclass(frozen=True)
class EngineSettings(CacheBytes, CacheBlocks):
    """Settings that every engine has.

    Attributes
    ----------
    enable_caching : bool
        Off: nothing is ever found in the cache.
    cache_outputs : bool or None
        Generated tokens stay in the cache like those of prompts.
    measured_from : int
        The first request that counters are over; those before warm the cache up.
    record : tuple of str
        Which of the engine's records to keep.
    """

    enable_caching: bool = setting(
        True,
        help="Look prompts up at all.",
        flag="--prefix-caching",
        off="--no-prefix-caching",
    )
    cache_outputs: bool | None = setting(
        None,
        help="Generated tokens stay in the cache, where the trace has them.",
        shown_default="as the engine does",
    )
    measured_from: int = 0
    record: tuple[str, ...] = ()

    @property
    def tokens_per_block(self) -> int:
        """The block size, which is settled before an engine runs."""
        assert self.block_size is not None
        return self.block_size

    @property
    def blocks(self) -> int | None:
        """The size of the cache in blocks, settled before an engine runs; ``None``: unbounded."""
        assert not isinstance(self.num_blocks, Size)
        return self.num_blocks

    @property
    def tier_sizes(self) -> dict[str, int | None]:
        """Blocks of each tier, the fastest first; ``None``: no limit. Engines with several say."""
        return {"hbm": self.blocks}

    @property
    def blocks_of_all_tiers(self) -> int | None:
        """What all tiers together hold, in blocks; ``None``: no limit."""
        known = [size for size in self.tier_sizes.values() if size is not None]
        return sum(known) if len(known) == len(self.tier_sizes) else None

    @property
    def counted_in_blocks(self) -> tuple[str, ...]:
        """Settings that are numbers of blocks, and so mean less memory with smaller ones."""
        return ("num_blocks",)

    @property
    def follows_lru_curve(self) -> bool:
        """Whether the forest's LRU curve is what this engine hits at every capacity."""
        return False

    def for_model(self) -> Self:
        """Return the settings with what ``model_config`` says of the model's layers.

        Called before sizes in bytes become blocks. Engines that care override it.

        Raises
        ------
        InputError
            If the engine has no rule for such a model.
        """
        return self

    def to_config(self, engine: str) -> JsonObject:
        """Return the settings as the ``config`` of an outcome: JSON values."""
        own = {option.name: getattr(self, option.name) for option in options_of(type(self))}
        shown = {name: own.pop(name, value) for name, value in _EVERYWHERE.items()}
        for name in _MEMORY:
            own.pop(name)
        plain = {k: str(v) if isinstance(v, Path | Policy) else v for k, v in own.items()}
        return {"engine": engine, **shown, **plain}


@dataclass(frozen=True)
class Record:
    """A record that an engine can keep of its run, and write.

    Attributes
    ----------
    name : str
        As in ``settings.record`` and :attr:`prefixsim.engines.outcome.Outcome.records`.
    flag : str
        The option of ``prefixsim replay`` that names the file.
    help : str
    endings : tuple of str
        Endings of file names it can be written as; empty: any.
    """

    name: str
    flag: str
    help: str
    endings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do, for those who show and explain its outcomes.

    Attributes
    ----------
    has_time : bool
        Requests overlap and wait; outcomes have ``ttft_s`` and the like.
    null_blocks : int
        Blocks of ``num_blocks`` that never hold anything.
    default_block_size : int
        Tokens of a block for traces of token ids, if nobody says.
    caches_outputs : bool
        Whether generated tokens stay in the cache if nobody says.
    caches_last_output : bool
        Whether an output's last token may be cached too, which the forest does not know of.
    policies : tuple of str
        Orders of eviction that the setting ``policy`` takes.
    default_for : tuple of str
        ``bounded``, ``unbounded``: it is meant where nobody names an engine; ``timed``: it is
        where time matters.
    on_segments : bool
        The cost of a run does not grow with smaller blocks.
    exact_evictions : bool
        The core can tell when each block was evicted.
    records : tuple of Record
    towards_surface : str
        Where it is told what sets a hierarchy of tiers apart from the surface of
        :mod:`prefixsim.study.tier_surface`: ``module:function``, which takes settings and returns
        pairs of what changes, in words, and the settings from then on; the last are the surface's.
    refused : dict of str to str
        Settings the server has and the engine does not follow, by name, with the reason; giving one
        is an error that says so.
    differs : dict of str to str
        How it differs from other servers, by aspect: ``granularity``, ``outputs``, ``eviction``,
        ``scheduling``. For comparisons in words.
    """

    has_time: bool = False
    null_blocks: int = 0
    default_block_size: int = DEFAULT_BLOCK_SIZE
    caches_outputs: bool = False
    caches_last_output: bool = False
    policies: tuple[str, ...] = ()
    default_for: tuple[str, ...] = ()
    on_segments: bool = False
    exact_evictions: bool = False
    records: tuple[Record, ...] = ()
    towards_surface: str = ""
    refused: dict[str, str] = field(default_factory=dict, hash=False)
    differs: dict[str, str] = field(default_factory=dict, hash=False)


Run = Callable[["Forest", Any], "Outcome"]


class Totals(NamedTuple):
    """Sums of one run over all requests.

    Attributes
    ----------
    hit_blocks, hit_tokens : int
    requests_with_hit : int
    evictions : int
    """

    hit_blocks: int
    hit_tokens: int
    requests_with_hit: int
    evictions: int


F = TypeVar("F")


def _resolved(function: F | str) -> F:
    """Return a function, imported if it is named."""
    if isinstance(function, str):
        module, _, name = function.partition(":")
        found: F = getattr(import_module(module), name)
        return found
    return function


def _named(name: str) -> Engine:
    """Return one of our engines; what pickling writes."""
    module = import_module(f"prefixsim.engines.{name.replace('-', '_')}")
    engine: Engine = module.ENGINE
    return engine


@dataclass(frozen=True)
class Engine:
    """One engine.

    Attributes
    ----------
    name : str
        As given to ``engine=`` and ``--engine``.
    title : str
        What it is, in a few words.
    settings : type
        Its dataclass, derived from :class:`EngineSettings`.
    run : callable or str
        ``run(forest, settings) -> Outcome``, or where it is: ``module:function``, imported when it
        is first called.
    capabilities : Capabilities
    totals : callable or str, optional
        ``totals(forest, list_of_settings)``: a :class:`Totals` for each, where that is cheaper than
        an outcome each; for sweeps.
    fleet : callable or str, optional
        ``fleet(forest, settings, fleet)``: lets many servers of the same settings serve a trace
        where a router sends each request; returns the core's columns, and times per request.
        Engines without it are no replicas of a fleet.
    server : callable or str, optional
        ``server(metrics, info)``: the settings that a running server says it has, empty if it is
        another kind of server; from the text of ``/metrics`` and the JSON of ``/server_info``.

    Examples
    --------
    An engine whose cache forgets everything:

    >>> import numpy as np
    >>> import prefixsim
    >>> from prefixsim.engines import Engine, EngineSettings, Outcome
    >>> def forgetful(forest, settings):
    ...     nothing = np.zeros(len(forest.trace), dtype=np.uint32)
    ...     config = settings.to_config("forgetful")
    ...     return Outcome("forgetful", config, nothing, nothing, forest.trace.prompt_len)
    >>> engine = Engine("forgetful", "nothing is kept", EngineSettings, forgetful)
    >>> trace = prefixsim.Trace.from_prompts([range(40), range(48)])
    >>> prefixsim.replay(trace, engine=engine).summary["hit_tokens"]
    0
    """

    name: str
    title: str
    settings: type[EngineSettings]
    run: Run | str
    capabilities: Capabilities = field(default_factory=Capabilities)
    totals: Callable[[Forest, Sequence[Any]], list[Totals]] | str | None = None
    fleet: Callable[..., tuple[JsonObject, JsonObject]] | str | None = None
    server: Callable[[str, object], JsonObject] | str | None = None

    def __call__(self, forest: Forest, settings: EngineSettings) -> Outcome:
        """Run the engine."""
        return _resolved(self.run)(forest, settings)

    def run_totals(self, forest: Forest, settings: Sequence[EngineSettings]) -> list[Totals]:
        """Return the totals of many runs on one forest, if the engine has a way of its own."""
        assert self.totals is not None
        return _resolved(self.totals)(forest, settings)

    def steps_towards_surface(self, settings: EngineSettings) -> list[tuple[str, EngineSettings]]:
        """Return what sets a hierarchy apart from the surface, one change at a time.

        Empty if nothing does, or the engine does not know.
        """
        if not self.capabilities.towards_surface:
            return []
        found: list[tuple[str, EngineSettings]] = _resolved(self.capabilities.towards_surface)(
            settings
        )
        return found

    def serve_fleet(
        self, forest: Forest, settings: EngineSettings, fleet: Mapping[str, object]
    ) -> tuple[JsonObject, JsonObject]:
        """Let many servers serve a trace; see :attr:`fleet`."""
        assert self.fleet is not None
        return _resolved(self.fleet)(forest, settings, fleet)

    def settings_said(self, metrics: str, info: object) -> JsonObject:
        """Return what a running server says of its settings; see :attr:`server`."""
        return {} if self.server is None else _resolved(self.server)(metrics, info)

    def __reduce__(self) -> str | tuple[object, ...]:
        # Ours are found by name, in whatever process.
        if isinstance(self.run, str) and self.run.startswith("prefixsim.engines."):
            return _named, (self.name,)
        return super().__reduce__()

    @property
    def own_options(self) -> tuple[str, ...]:
        """Names of the options that not every engine has."""
        common = {f.name for f in fields(EngineSettings)}
        return tuple(o.name for o in options_of(self.settings) if o.name not in common)

"""Sizes of the state that a recurrent layer keeps for each request.

As vLLM 0.33 shapes them (``MambaStateShapeCalculator`` and ``MambaStateDtypeCalculator`` in
``vllm/model_executor/layers/mamba/mamba_utils.py``), per GPU, with TP GPUs, k the kernel of the
convolution and D draft tokens:

* gated delta net (Qwen3-Next): convolution ``(2 * k_heads * k_dim + v_heads * v_dim) / TP * (k - 1
  + D)``, recurrent ``v_heads / TP * v_dim * k_dim``;
* Kimi delta attention: convolution ``3 * heads * dim / TP * (k - 1 + D)``, recurrent ``heads / TP *
  dim * dim``, always float32;
* Mamba-2: convolution ``(inner + 2 * groups * state) / TP * (k - 1 + D)``, recurrent ``heads / TP *
  dim * state``; groups that TP does not divide are copied;
* Mamba-1: convolution ``inner / TP * (k - 1)``, recurrent ``inner / TP * state``;
* short convolution (LFM2): ``width / TP * (k - 1)``;
* lightning attention (MiniMax): ``heads / TP * dim * dim``.

The convolution has the model's data type, the recurrent state that of ``mamba_ssm_cache_dtype`` or
``mamba_ssm_dtype`` where the configuration has one, else the model's too.
"""

from __future__ import annotations

from typing import NamedTuple

from prefixsim.errors import InputError
from prefixsim.hardware.model_config import ModelConfig

__all__ = ["State", "state_of"]


class State(NamedTuple):
    """The state of one layer and request on each GPU.

    Attributes
    ----------
    name : str
        What kind of recurrence it is.
    tensors : tuple of (int, int)
        Elements and bytes per element.
    checkpoint_alignment : int or None
        Tokens between the states that the kernels export inside a prefill.
    """

    name: str
    tensors: tuple[tuple[int, int], ...]
    checkpoint_alignment: int | None = None


class _Sizing(NamedTuple):
    """What the size of a state depends on beside the configuration."""

    model: ModelConfig
    model_bytes: int
    state_bytes: int
    gpus: int
    drafts: int

    def share(self, count: int) -> int:
        """One GPU's part of a count of heads or channels."""
        if count % self.gpus:
            msg = (
                f"{self.model.where}: a recurrent state of {count} heads or channels cannot be "
                f"shared evenly by {self.gpus} GPUs"
            )
            raise InputError(msg)
        return count // self.gpus


def state_of(
    model: ModelConfig, *, model_bytes: int, state_bytes: int, gpus: int = 1, drafts: int = 0
) -> State | None:
    """Compute the sizes of a recurrent layer's state; ``None`` if the configuration lacks them.

    Parameters
    ----------
    model : ModelConfig
    model_bytes, state_bytes : int
        Bytes of an element of the convolution and of the recurrent state.
    gpus : int
        GPUs that share the heads.
    drafts : int
        Draft tokens of a step.

    Raises
    ------
    InputError
        If the GPUs cannot share the heads evenly.
    """
    sizing = _Sizing(model, model_bytes, state_bytes, gpus, drafts)
    rules = (_gated_delta_net, _kimi_delta, _mamba_2, _mamba_1, _short_convolution, _lightning)
    return next((found for rule in rules if (found := rule(sizing)) is not None), None)


def _gated_delta_net(of: _Sizing) -> State | None:
    values = of.model.optional("linear_num_value_heads")
    if values is None:
        return None
    need = of.model.number
    k, v = need("linear_key_head_dim"), need("linear_value_head_dim")
    kernel = need("linear_conv_kernel_dim") - 1 + of.drafts
    convolution = of.share(2 * need("linear_num_key_heads") * k + values * v) * kernel
    tensors = (convolution, of.model_bytes), (of.share(values) * v * k, of.state_bytes)
    return State("gated delta net", tensors)


def _kimi_delta(of: _Sizing) -> State | None:
    nested = of.model.config.get("linear_attn_config")
    if not isinstance(nested, dict):
        return None
    part = ModelConfig(f"{of.model.where}: linear_attn_config", nested)
    heads, dim = part.number("num_heads"), part.number("head_dim")
    kernel = part.number("short_conv_kernel_size") - 1 + of.drafts
    tensors = (of.share(3 * heads * dim) * kernel, of.model_bytes), (of.share(heads) * dim**2, 4)
    return State("Kimi delta attention", tensors)


def _mamba_2(of: _Sizing) -> State | None:
    heads = of.model.optional("mamba_num_heads", "mamba_n_heads")
    if heads is None:
        return None
    dim = _head_dim(of.model, heads)
    groups = of.model.optional("n_groups", "mamba_n_groups") or 1
    groups += of.gpus - groups if groups % of.gpus else 0
    width = of.model.number("ssm_state_size", "mamba_d_state")
    kernel = of.model.number("conv_kernel", "mamba_d_conv") - 1 + of.drafts
    convolution = of.share(heads * dim + 2 * groups * width) * kernel
    tensors = (convolution, of.model_bytes), (of.share(heads) * dim * width, of.state_bytes)
    return State("Mamba-2", tensors, checkpoint_alignment=1)


def _head_dim(model: ModelConfig, heads: int) -> int:
    """Elements of a Mamba-2 head; ``auto`` divides the inner width."""
    if model.config.get("mamba_d_head") == "auto":
        inner = model.optional("mamba_d_ssm")
        inner = inner or (model.optional("mamba_expand") or 2) * model.number("hidden_size")
        return inner // heads
    return model.number("mamba_head_dim", "mamba_d_head")


def _mamba_1(of: _Sizing) -> State | None:
    width = of.model.optional("mamba_d_state")
    if width is None:
        return None
    expand = of.model.optional("mamba_expand") or 2
    inner = of.share(expand * of.model.number("hidden_size"))
    kernel = of.model.number("mamba_d_conv") - 1
    return State("Mamba-1", ((inner * kernel, of.model_bytes), (inner * width, of.state_bytes)))


def _short_convolution(of: _Sizing) -> State | None:
    kernel = of.model.optional("conv_L_cache")
    if kernel is None:
        return None
    width = of.share(of.model.optional("conv_dim") or of.model.number("hidden_size"))
    return State("short convolution", ((width * (kernel - 1), of.model_bytes),))


def _lightning(of: _Sizing) -> State | None:
    if not isinstance(of.model.config.get("attn_type_list"), list):
        return None
    heads = of.model.query_heads()
    dim = of.model.head_dim(heads)
    return State("lightning attention", ((of.share(heads) * dim * dim, of.model_bytes),))

"""Two encoders of one tokenizer: the reference, and a quicker one that must give the same ids.

The reference is ``tokenizers`` (``transformers`` for a tokenizer that it alone has). The quicker
one is ``fastokens``, which does byte-level BPE in a tenth of the time. It is used for tokenizers of
that kind (those with stable boundaries, :mod:`prefixsim.text.pretoken_boundaries`), once there is
so much text that building it pays, and only while its ids are those of the reference: for
:data:`PROBES`, for the first texts given, and for a sample of all that follow.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from prefixsim.errors import InputError
from prefixsim.text.pretrained import Tokenizer

__all__ = ["PROBES", "QUICK", "SWITCH", "Encoder", "Tokens"]

Tokens = npt.NDArray[np.uint32]

QUICK = "fastokens"
SWITCH = "PREFIXSIM_FASTOKENS"
"""Name of the variable of the environment that is ``0`` where the reference alone is wanted."""

_PAYS_CHARACTERS = 200_000
_FIRST_CHARACTERS = 100_000
_SAMPLE_SHARE = 0.001
_SAMPLE_LONGEST = 20_000

PROBES = (
    "",
    "Hello, my dog is cute",
    " leading, trailing  and   inner    spaces \t\ttabs\n\n\nlines\r\n \n x",
    "\u00a0no-break\u2003em\u3000ideographic\u200bzero\u0085next\u2028line",
    "I'm, you're, we'll, they'd, it's, I've, don't, 'S 'T 'Ll O'Neil's ' s '' ''s",
    "0 12 345 6789 1234567890 3.14159 1e-9 0x1F"
    " \u0661\u0662\u0663 \u00bd \u00b2 \u2167 \u09ea\u09eb",
    "na\u00efve caf\u00e9 cafe\u0301 \u00c5ngstr\u00f6m \u212b"
    " \ufb01 \u017f stra\u00dfe \u0130 \u0131",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u03b3\u03b5\u03b9\u03b1 \u05e9\u05dc\u05d5\u05dd"
    " \u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a",
    "\u6f22\u5b57\u3001\u3072\u3089\u304c\u306a\u30ab\u30bf\u30ab\u30ca\u3002\uff21\uff22\uff11"
    " \ud55c\uad6d\uc5b4 \u1112\u1161\u11ab",
    "\U0001f600\U0001f3fd"
    " \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "\x00\x01\x1c\x7f\ufeff\ufffd\ufffe\ue000\U0010ffff a\u0301\u0308\u0301",
    "def f(x):\n    return {'a': [1, 2]}  # <b>&amp;</b>\n\n\n"
    'if __name__ == "__main__":\n\tf(1)\n',
    "https://example.org/a_b-c?d=e&f=%20#g user@example.org C:\\x\\y.txt"
    " $1,000.00 #!/bin/sh -*- ~~",
    "...---!!!???;;;:::((([[[{{{<<<|||>>>}}}]]])))***+++===___^^^",
    "<|endoftext|><|im_start|>user\nHi<|im_end|></s><s><pad><unk> <mask> <think>x</think> <|endof",
    "antidisestablishmentarianismPneumonoultramicroscopicsilicovolcanoconiosis",
    "a" * 1000 + " " * 1000 + "\n" * 300 + "1" * 300 + "\U0001f600" * 100 + "\u6f22" * 300,
    "camelCaseHTTPServer snake_case_name SCREAMING_CASE v1.2.3-rc4 a1b2c3",
)
"""Texts that tokenizers read differently: white space, contractions, digits, marks, scripts, emoji,
controls, code, names of special tokens, long words and runs."""

_log = logging.getLogger("prefixsim")


class Encoder:
    """Encodes texts with one tokenizer.

    Parameters
    ----------
    hf : transformers tokenizer
    name : str
        Of the tokenizer, for messages.
    quick : bool
        Whether the tokenizer is of a kind that may be encoded by ``fastokens``. It is then where it
        is installed, its ids are those of the reference, and :data:`SWITCH` does not forbid it.

    Attributes
    ----------
    note : str or None
        Why ``fastokens`` was given up, if it was.
    """

    def __init__(self, hf: Tokenizer, name: str, *, quick: bool) -> None:
        self._hf = hf
        self._name = name
        self._fast: Tokenizer = getattr(hf, "backend_tokenizer", None)
        self._wanted = quick and os.environ.get(SWITCH) != "0" and find_spec(QUICK) is not None
        self._quick: Callable[[Sequence[str]], list[Tokens]] | None = None
        self._characters = 0
        self.note: str | None = None

    @property
    def used(self) -> str:
        """The package that encodes what is given from here on, and its version."""
        if self._quick is not None:
            return f"{QUICK} {version(QUICK)}"
        package = "transformers" if self._fast is None else "tokenizers"
        return f"{package} {version(package)}"

    def reference(self, texts: Sequence[str], *, special: bool = False) -> list[Tokens]:
        """Encode with the reference, on all cores; ``special`` adds special tokens."""
        if not texts:
            return []
        if self._fast is not None:
            done = self._fast.encode_batch_fast(list(texts), add_special_tokens=special)
            return [np.array(e.ids, dtype=np.uint32) for e in done]
        ids = self._hf(list(texts), add_special_tokens=special, truncation=False)["input_ids"]
        return [np.array(x, dtype=np.uint32) for x in ids]

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Encode without special tokens, by the quickest encoder that gives the right ids.

        Raises
        ------
        InputError
            If ``fastokens`` gives other ids than the reference after it gave the same for a while.
        """
        if self._wanted and self._quick is None:
            self._characters += sum(map(len, texts))
            if self._characters >= _PAYS_CHARACTERS:
                self._start(texts)
        if self._quick is None:
            return self.reference(texts)
        try:
            done = self._quick(texts)
        except Exception as error:
            self._give_up(f"it failed ({type(error).__name__})")
            return self.reference(texts)
        sample = list(_sample(texts))
        expected = self.reference([texts[i] for i in sample])
        if any(not np.array_equal(done[i], e) for i, e in zip(sample, expected, strict=True)):
            msg = (
                f"tokenizer '{self._name}': {QUICK} {version(QUICK)} gives other token ids than "
                f"tokenizers; set {SWITCH}=0 to do without it"
            )
            raise InputError(msg)
        return done

    def _start(self, texts: Sequence[str]) -> None:
        """Build the quicker encoder, and compare it with the reference."""
        probes = [*PROBES, *_leading(texts)]
        try:
            quick = _build(self._fast.to_str())
            done = quick(probes)
        except Exception as error:
            self._give_up(f"it failed ({type(error).__name__})")
            return
        if all(map(np.array_equal, done, self.reference(probes))):
            self._quick = quick
        else:
            self._give_up("it gives other token ids")

    def _give_up(self, reason: str) -> None:
        self._wanted = False
        self._quick = None
        self.note = f"tokenizer '{self._name}' is read without {QUICK} {version(QUICK)}: {reason}"
        _log.warning("prefixsim: %s", self.note)


def _build(spec: str) -> Callable[[Sequence[str]], list[Tokens]]:
    import fastokens

    tokenizer = fastokens.Tokenizer.from_json_str(spec)

    def encode(texts: Sequence[str]) -> list[Tokens]:
        if not texts:
            return []
        ids, offsets = tokenizer.encode_batch_flat(list(texts))
        flat = np.frombuffer(ids, dtype="<u4").astype(np.uint32, copy=False)
        ends = np.frombuffer(offsets, dtype="<u8").tolist()
        return [flat[a:b] for a, b in pairwise(ends)]

    return encode


def _leading(texts: Sequence[str]) -> Iterator[str]:
    """Yield the first texts, up to a size."""
    left = _FIRST_CHARACTERS
    for text in texts:
        left -= len(text)
        if left < 0:
            return
        yield text


def _sample(texts: Sequence[str]) -> Iterator[int]:
    """Yield places of texts spread over a batch, about :data:`_SAMPLE_SHARE` of them."""
    step = max(1, int(1 / _SAMPLE_SHARE))
    for i in range(len(texts) // 2 % step, len(texts), step):
        if len(texts[i]) <= _SAMPLE_LONGEST:
            yield i

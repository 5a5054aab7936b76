"""Train the embedded tokenizer anew: ``python -m prefixsim.traffic.demo.train``.

The same text and the same ``tokenizers`` version give the same files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from prefixsim.traffic.demo.workload import sample_conversations

__all__ = ["FOLDER", "train"]

FOLDER = Path(__file__).parents[2] / "text" / "demo_tokenizer"
VOCABULARY = 3072
_TRAINING_SEED = 20240

_SPECIAL = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] "
    "+ '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
# Common words, so that text of other kinds does not fall into single letters at once.
_EXTRA_TEXT = (
    "the and of to in that is was for it with as his on be at by had not are but from or have an "
    "they which one you were all her she there would their we him been has when who will no more "
    "if out so up said what its about than into them can only other time new some could these two "
    "may first then do any like my now over such our man me even most made after also did many off"
)


def train(folder: Path = FOLDER) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    spec = json.loads(tokenizer.to_str())
    text = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "model_max_length": 1_000_000_000,
        "clean_up_tokenization_spaces": False,
        "chat_template": _CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def _texts() -> Iterator[str]:
    for conversation in sample_conversations(2000, seed=_TRAINING_SEED):
        for message in conversation["conversations"]:
            yield message["value"]
    yield from [" " + _EXTRA_TEXT] * 50


if __name__ == "__main__":
    train()

"""What a U-Net is told of a prompt: the states of its tokens in one or two CLIP text encoders.

    tokens   [start, word pieces, end, padding], as many as the encoder takes (77): a longer prompt
             is cut, a shorter one is padded, by <|endoftext|> (1.x) or "!" (2.x)
    text     SD: the last states [77,W];  SDXL: the last but one, of both encoders side by side
    pooled   SDXL: the second encoder's state of the end token, projected [P]

Padding is told like words, unless an encoder's configuration says use_attention_mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffgeo.pretrained.latent.networks import text_encoder_of, tokenizer_of
from diffgeo.pretrained.latent.parts import LatentFolder, TextPart

AT_ONCE = 64  # prompts in an encoder


class Embedded(NamedTuple):
    """Prompts as a U-Net is told them: the states of their tokens [n,77,W], and with SDXL the whole
    of each [n,P]."""

    text: Tensor
    pooled: Tensor | None = None

    def on(self, device: torch.device | str) -> Embedded:
        pooled = None if self.pooled is None else self.pooled.to(device)
        return Embedded(self.text.to(device), pooled)

    def zeros(self) -> Embedded:
        pooled = None if self.pooled is None else torch.zeros_like(self.pooled)
        return Embedded(torch.zeros_like(self.text), pooled)

    def rows(self, index: Tensor) -> Embedded:
        pooled = None if self.pooled is None else self.pooled[index]
        return Embedded(self.text[index], pooled)


def joined(parts: Sequence[Embedded]) -> Embedded:
    """Some prompts after others."""
    text = torch.cat([part.text for part in parts])
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Embedded(text, torch.cat(pooled) if pooled else None)


class Encoder(nn.Module):
    """One text encoder and its tokenizer."""

    def __init__(self, folder: LatentFolder, part: TextPart):
        super().__init__()
        self.net = text_encoder_of(folder, part)
        self.tokenizer = tokenizer_of(folder, part)
        # the library's own limit is 1e30 where no file names one
        self.most = min(part.most, self.tokenizer.model_max_length)
        self.masked = part.config.get("use_attention_mask") is True

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each prompt has, start and end with it, before it is cut."""
        return [len(ids) for ids in self.tokenizer(list(texts), verbose=False).input_ids]

    def forward(self, texts: Sequence[str]):
        """The library's output, with the states of every layer."""
        tokens = self.tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.most,
            truncation=True,
            return_tensors="pt",
        )
        device = next(self.net.parameters()).device
        mask = tokens.attention_mask.to(device) if self.masked else None
        ids = tokens.input_ids.to(device)
        return self.net(ids, attention_mask=mask, output_hidden_states=True)


class Encoders(nn.Module):
    """The text encoders of a folder."""

    def __init__(self, folder: LatentFolder):
        super().__init__()
        self.pooled = folder.family == "sdxl"
        self.parts = nn.ModuleList(Encoder(folder, part) for part in folder.texts)
        self.encoded = 0  # prompts so far

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Embedded:
        """These prompts, encoded on the device of the weights."""
        pieces = [texts[i : i + AT_ONCE] for i in range(0, len(texts), AT_ONCE)]
        self.encoded += len(texts)
        return joined([self.piece(piece) for piece in pieces])

    def piece(self, texts: Sequence[str]) -> Embedded:
        found = [encoder(texts) for encoder in self.parts]
        if not self.pooled:
            return Embedded(found[0].last_hidden_state)
        states = [states.hidden_states[-2] for states in found]
        return Embedded(torch.cat(states, -1), found[-1].text_embeds)

    def cut(self, texts: Sequence[str]) -> list[int]:
        """Which of these prompts are longer than an encoder takes, from 0."""
        long: set[int] = set()
        for encoder in self.parts:
            lengths = encoder.lengths(texts)
            long |= {i for i, length in enumerate(lengths) if length > encoder.most}
        return sorted(long)

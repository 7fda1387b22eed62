"""One training step of prompts on a frozen Vision Transformer in PyTorch: `torch_prompts.py CONFIG.json TYPE BATCH`.

As somebody would write it there: fused attention and norms, prefixes before keys and values in five blocks, Adam on
prompts and a linear head, gradients by autograd. TYPE is float32 or bfloat16, by autocast. Weights are drawn; what a
step takes does not depend on them. The answer is microseconds an image.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from answer import answer
from torch import nn
from torch.nn import functional

# Dimensions: B images, N tokens, D width, H heads, L rows of a prefix, C classes.
L, C = 5, 16
PROMPTED = 5  # blocks with a prefix

torch.set_num_threads(1)


class Block(nn.Module):
    """An encoder block that takes a prefix."""

    def __init__(self, D: int, H: int, F: int) -> None:
        super().__init__()
        self.heads = H
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.project = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.expand, self.contract = nn.Linear(D, F), nn.Linear(F, D)

    def forward(self, x: torch.Tensor, prefix: Any) -> torch.Tensor:
        """Return the tokens after the block, (B, N, D)."""
        B, N, D = x.shape
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        if prefix is not None:
            k, v = (torch.cat([part.to(y.dtype).expand(B, -1, -1), y], dim=1) for part, y in zip(prefix, (k, v)))
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))
        x = x + self.project(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, D))
        return x + self.contract(functional.gelu(self.expand(self.norm2(x))))


class Vit(nn.Module):
    """The frozen network with trained prompts and a linear head."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        D, step = int(config["width"]), int(config["patch_size"])
        N = 1 + (int(config["image_size"]) // step) ** 2
        self.patches = nn.Conv2d(3, D, step, step)
        self.token, self.position = nn.Parameter(torch.zeros(1, 1, D)), nn.Parameter(torch.randn(1, N, D) * 0.02)
        sizes = (D, int(config["heads"]), int(config["mlp_width"]))
        self.blocks = nn.ModuleList(Block(*sizes) for _ in range(int(config["depth"])))
        self.norm = nn.LayerNorm(D)
        self.requires_grad_(False)
        self.prompts = nn.Parameter(torch.rand(PROMPTED, 2, 1, L, D) * 0.04 - 0.02)
        self.head = nn.Linear(D, C)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, (B, C)."""
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.to(x.dtype).expand(len(x), -1, -1), x], dim=1) + self.position
        for i, block in enumerate(self.blocks):
            x = block(x, self.prompts[i] if i < PROMPTED else None)
        return self.head(self.norm(x[:, 0]))


def main() -> None:
    """Answer until the input ends."""
    source, kind, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
    config = json.loads(Path(source).read_text())
    torch.manual_seed(0)
    model = Vit(config)
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=1e-3)
    size = int(config["image_size"])
    images, labels = torch.rand(batch, 3, size, size), torch.arange(batch) % C

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
            loss = functional.cross_entropy(model(images).float(), labels)
        loss.backward()
        optimizer.step()

    answer(step, batch)


if __name__ == "__main__":
    main()

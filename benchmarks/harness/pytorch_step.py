"""Train the network of the recipe `fast` with PyTorch on a CPU, as its documentation advises: bfloat16, channels last.

    pytorch_step.py BATCHES EPOCHS      prints images/s in each epoch, as JSON, after one warm-up batch

Runs under its own Python, which has PyTorch and nothing of ours. Its batches are random and ready in memory; its
optimizer is plain Nesterov SGD without lookahead.
"""

import json
import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional

BATCH, WIDTHS = 1024, (64, 256, 256)


class Block(nn.Module):
    """Convolution, pool, norm, SiLU; convolution, norm, SiLU."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])
        for norm in self.norms:
            norm.weight.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, width, H / 2, W / 2)."""
        x = functional.silu(self.norms[0](functional.max_pool2d(self.first(x), 2)))
        return functional.silu(self.norms[1](self.second(x)))


class Network(nn.Module):
    """`training.fit.networks.airbench` with two convolutions per block."""

    def __init__(self) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2).requires_grad_(False)
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in zip((24, *WIDTHS), WIDTHS, strict=False)))
        self.head = nn.Linear(WIDTHS[-1], 10, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, 32, 32) -> logits (N, 10)."""
        x = self.blocks(functional.silu(self.whiten(images)))
        return self.head(functional.max_pool2d(x, 3).flatten(1)) / 9


def main(batches: int, epochs: int) -> None:
    """Train, and print images/s in each epoch."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = Network().to(memory_format=torch.channels_last)
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.1, momentum=0.85, nesterov=True, weight_decay=1e-3)
    images = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH,))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(images)
        functional.cross_entropy(logits.float(), labels, label_smoothing=0.2).backward()
        optimizer.step()

    step()
    rates = []
    for _ in range(epochs):
        began = time.perf_counter()
        for _ in range(batches):
            step()
        rates.append(batches * BATCH / (time.perf_counter() - began))
    print(json.dumps(rates))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

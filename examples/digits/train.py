"""Train a classifier of digits with a plain torchrun script: nothing here depends on Kubernetes.

The script uses three functions of Slipway: data() returns a data source by its name in the TrainingJob, device() the
device of this rank, and save() stores the model with this file as its code. A TrainingJob sets SLIPWAY_DATA (JSON: the
folder of each data set by name) and SLIPWAY_OUTPUT_DIR. If you set both, you can run the script on one machine:

    torchrun --nproc-per-node=2 train.py --epochs 10
"""

import argparse

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import slipway.runtime


class Classifier(nn.Module):
    """784-128-10: scores of ten digits from images of 28x28 pixels between 0 and 1."""

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Linear(28 * 28, hidden)
        self.scores = nn.Linear(hidden, 10)
        nn.init.kaiming_uniform_(self.hidden.weight, nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scores(torch.relu(self.hidden(images.flatten(1))))


def tensors(name: str) -> TensorDataset:
    arrays = slipway.runtime.data(name)
    return TensorDataset(torch.from_numpy(arrays.inputs), torch.from_numpy(arrays.targets))


def main(epochs: int, batch_size: int, learning_rate: float) -> None:
    device = slipway.runtime.device()
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(0)

    train = tensors("train")
    sampler = DistributedSampler(train, seed=0)
    batches = DataLoader(train, batch_size=batch_size // dist.get_world_size(), sampler=sampler)
    model = DistributedDataParallel(Classifier().to(device))
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    loss_function = nn.CrossEntropyLoss()

    for epoch in range(1, epochs + 1):
        sampler.set_epoch(epoch)
        for images, digits in batches:
            optimizer.zero_grad()
            loss = loss_function(model(images.to(device)), digits.to(device))
            loss.backward()
            optimizer.step()
        if dist.get_rank() == 0:
            print(f"epoch {epoch}/{epochs}  loss of the last batch {loss.item():.4f}", flush=True)

    images, digits = (tensor.to(device) for tensor in tensors("test").tensors)
    with torch.no_grad():
        accuracy = (model.module(images).argmax(1) == digits).float().mean().item()
    slipway.runtime.save(model, images[:2], metrics={"accuracy": accuracy, "loss": loss.item()})
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32, help="over all ranks together")
    parser.add_argument("--learning-rate", type=float, default=0.001)
    main(**vars(parser.parse_args()))

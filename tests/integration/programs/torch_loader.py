"""`DataLoader` with a multiprocessing_context, and `torch.multiprocessing`: tensors through queues and pools.

Needs: torch, numpy
Run only: `DataLoader` takes only a context that is an instance of `multiprocessing.context.BaseContext`
"""

import multiprocessing
import sys

import torch
import torch.multiprocessing
from torch.utils.data import DataLoader, Dataset


class Squares(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.full((4,), float(index * index)), index


def fill(queue, back, shared):
    shared.add_(1)
    queue.put(torch.arange(1000))
    queue.put({"a": torch.ones(3, 3), "b": [torch.zeros(2)]})
    back.get()


def total(tensor):
    return tensor.sum()


if __name__ == "__main__":
    method = sys.argv[1]
    context = multiprocessing.get_context(method)
    for persistent in (False, True):
        loader = DataLoader(
            Squares(),
            batch_size=5,
            num_workers=2,
            multiprocessing_context=context,
            persistent_workers=persistent,
        )
        for _ in range(2):
            print([(batch.sum().item(), indices.tolist()) for batch, indices in loader])
        del loader
    for module in (torch.multiprocessing, multiprocessing):
        context = module.get_context(method)
        queue, back = context.Queue(), context.Queue()
        shared = torch.zeros(5).share_memory_()
        child = context.Process(target=fill, args=(queue, back, shared))
        child.start()
        first, second = queue.get(), queue.get()
        print(first.sum(), second)
        back.put(None)
        child.join()
        print(child.exitcode, shared.tolist())
        with context.Pool(2) as pool:
            print(pool.map(total, [torch.ones(number) for number in range(4)]))

"""Prints a run's layers, shapes and parameter counts; trains nothing.

jaxhw params --config=configs/vit.py

A classifier's are under PyTorch's names, and no data is read. Those of other runs are under their own: what they look
like depends on the data.
"""

import argparse

from ml_collections import ConfigDict

from jaxhw import config as configs

TAKES_CONFIG = True
Row = tuple[str, tuple[int, ...], int]  # layer, shape, count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Names the config's flags, which are all it takes."""
    parser.usage = configs.USAGE


def run(args: argparse.Namespace) -> None:
    """Prints the table and the total."""
    config, _ = configs.parse(args.flags, "task")
    table = _classifier(config) if config.task == "classify" else _of_task(config)
    width = max(len(layer) for layer, _, _ in table)
    shape_width = max(len(str(list(shape))) for _, shape, _ in table)
    print(f"{'Layer':{width}}  {'Shape':{shape_width}}  {'Params':>10}")
    for layer, shape, count in table:
        print(f"{layer:{width}}  {list(shape)!s:{shape_width}}  {count:10d}")
    print(f"{'Total':{width}}  {'':{shape_width}}  {sum(count for *_, count in table):10d}")


def _classifier(config: ConfigDict) -> list[Row]:
    from jaxhw.vision.data import datasets
    from jaxhw.vision.models import registry
    from jaxhw.vision.weights import torch_names

    names, size = datasets.describe(config.dataset, config.image_size or None, config.data_dir or None)
    model = registry.create(config.model, len(names), size, config.dtype)
    return torch_names.parameter_table(registry.shapes(model, size))


def _of_task(config: ConfigDict) -> list[Row]:
    import jax

    from jaxhw import mesh as meshes
    from jaxhw import task, tree

    variables = task.make(config, meshes.make_mesh(1)).init(jax.random.key(config.seed))
    return [(name, leaf.shape, leaf.size) for name, leaf in tree.by_name(variables.params).items()]

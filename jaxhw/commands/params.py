"""Prints a model's layers, shapes and parameter counts under PyTorch's names; loads no data, computes nothing.

jaxhw params --config=configs/vit.py
"""

import argparse

from jaxhw import config as configs

TAKES_CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the config's flags are all it takes."""


def run(args: argparse.Namespace) -> None:
    """Prints the table and the total."""
    config, _ = configs.parse(args.flags)
    from jaxhw.vision import datasets, models, pretrained

    names, size = datasets.describe(config.dataset, config.image_size or None, config.data_dir or None)
    model = models.create(config.model, len(names), size, config.dtype)
    table = pretrained.parameter_table(models.shapes(model, size))
    width = max(len(layer) for layer, _, _ in table)
    shape_width = max(len(str(list(shape))) for _, shape, _ in table)
    print(f"{'Layer':{width}}  {'Shape':{shape_width}}  {'Params':>10}")
    for layer, shape, count in table:
        print(f"{layer:{width}}  {list(shape)!s:{shape_width}}  {count:10d}")
    print(f"{'Total':{width}}  {'':{shape_width}}  {sum(count for *_, count in table):10d}")

"""What pre-training gives on CIFAR-100: supervised ImageNet, SimCLR on CIFAR-10, SimCLR on STL-10, nothing.

    jaxhw study --config=configs/study_pretraining.py --workdir=runs/study_pretraining

The course report's figures 1.3 and 1.4: its fine-tuning (configs/finetune.py:seed) from SimCLR's weights
(configs/simclr.py, as many steps on either set), the curves over each other in accuracy.png; in table.md also the
offline linear probe, the nearest neighbours and an MLP head on the frozen backbone. Differences: STL-10 is learnt from
at 32 pixels, as the target's images are (there at 96); two seeds for every row. SimCLR takes 100 minutes
on two cores, fine-tuning 27 on one, the MLP head 8, the probe 5; RESULTS.md has the table after 30 epochs of SimCLR.
Finished runs of configs/simclr.py with --config.steps=9350 can be moved in, as
runs/study_pretraining/runs/SimCLR on CIFAR-10/seed0 and so on.

ImageNet's weights come from the Hugging Face hub, STL-10 is downloaded (2.6 GB) where it is not prepared; a run whose
data or weights cannot be had is a row that says so.

    --config=configs/study_pretraining.py:seed      SimCLR by the report's recipe too (configs/simclr.py:seed): days
    --config=configs/study_pretraining.py:good      fine-tuning by the better recipe too (configs/finetune.py)
    --config=configs/study_pretraining.py:labels    the better recipes with 100 %, 10 % and 1 % of the labels, in all,
                                                    a fifth and a tenth of their steps

By the better recipe random weights are trained at the rate of configs/resnet18.py, the others at configs/finetune.py's.
"""

from configs import finetune, linear, resnet18, simclr
from jaxhw import study

SOURCES = ("ImageNet, supervised", "SimCLR on CIFAR-10", "SimCLR on STL-10", "random")
TORCH = "hf:timm/resnet18.tv_in1k"
LABELS = {1.0: 1.0, 0.1: 0.2, 0.01: 0.1}  # part of the labels -> part of the steps


def get_config(variant: str = ""):
    """``""`` and ``"seed"`` have the report's fine-tuning, ``"good"`` the better one, ``"labels"`` also few labels."""
    if variant not in ("", "seed", "good", "labels"):
        raise ValueError(f"configs/study_pretraining.py has no variant {variant!r}; it has seed, good and labels")
    recipe = "seed" if variant in ("", "seed") else ""
    bases = {
        "simclr": simclr.get_config("seed" if variant == "seed" else ""),
        "finetune": finetune.get_config(recipe),
        "linear": linear.get_config(),
    }
    bases["frozen"] = finetune.get_config(recipe or "frozen")
    bases["frozen"].frozen = True
    bases["frozen"].model.head = "mlp"
    config = study.default_config(bases)
    config.seeds = (0, 1)
    config.bases.simclr.steps = round(bases["simclr"].epochs * (48_000 // bases["simclr"].batch_size))  # on either set
    stl10 = (("dataset", "tfds:stl10"), ("split", "unlabelled"), ("knn_dataset", "tfds:stl10"))
    stl10 += (("image_size", 32),)
    config.runs = (("SimCLR on CIFAR-10", "simclr", ()), ("SimCLR on STL-10", "simclr", stl10))
    starts = {name: start(name, bases["simclr"].normalise) for name in SOURCES}
    fine = dict(starts)
    if recipe != "seed":
        fine["random"] += (("optim.lr", resnet18.get_config().optim.lr),)
    config.columns = ("test_accuracy", "test_knn_accuracy")
    if variant == "labels":
        return labels(config, {"finetune": fine, "linear": starts})
    config.runs += tuple((f"{name}: fine-tuned", "finetune", s) for name, s in fine.items())
    config.runs += tuple((f"{name}: linear", "linear", s) for name, s in starts.items())
    config.runs += tuple((f"{name}: frozen, MLP", "frozen", s) for name, s in starts.items())
    config.curves = tuple(f"{name}: fine-tuned" for name in SOURCES)
    return config


def start(name: str, normalise: str) -> tuple:
    """The changes that start a run from a source, with the normalisation that belongs to it."""
    if name == SOURCES[0]:
        return (("init_from", TORCH), ("normalise", "imagenet"))
    return (("init_from", "" if name == "random" else f"@{name}"), ("normalise", normalise))


def labels(config, starts: dict[str, dict[str, tuple]]):
    """Fine-tuning and the linear probe with a part of the labels; the fewer, the more often each is seen."""
    images = {"finetune": 50_000, "linear": 45_000}  # of an epoch with all labels
    lengths = {base: config.bases[base].epochs * n / config.bases[base].batch_size for base, n in images.items()}
    for fraction, share in LABELS.items():
        for name in SOURCES:
            for base, run in (("finetune", "fine-tuned"), ("linear", "linear")):
                part = (("fraction", fraction), ("steps", round(share * lengths[base])))
                run_name = f"{name}: {run}, {fraction:.0%} of labels"
                config.runs += ((run_name, base, (*starts[base][name], *part)),)
                config.points += ((fraction, run_name, f"{name}: {run}"),)
    config.columns = ("test_accuracy",)
    config.x = "part of CIFAR-100's labels"
    return config

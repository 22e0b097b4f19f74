"""Transfer to a set of domains and classes: the second course report's settings A to E.

    jaxhw study --config=configs/study_transfer.py --workdir=runs/study_transfer \
        --config.bases.byol.dataset=folder:imagenette64 --config.bases.supervised.dataset=folder:imagenette64 \
        --config.bases.target.dataset=domains:pacs64

| setting | backbone before                      | trained on the target | report (Office-Home, ResNet-50) |
| A       | random                               | all of it             | 27.8 %                          |
| B       | supervised on the source             | all of it             | 38.0 %                          |
| C       | BYOL on the source, without labels   | all of it             | 47.8 %                          |
| D       | as B                                 | the head, frozen      | 32.5 %                          |
| E       | as C                                 | the head, frozen      | 37.0 %                          |

The source of B to E is one set (there, mini-ImageNet), the same images of it for both: a tenth is held out. The recipes
are those of configs/byol.py:photos and, with labels, of configs/finetune.py, each at its own length. The
target is DIR/DOMAIN/CLASS/*.jpg, such as Office-Home or PACS: all domains together (`domains:DIR:photo,sketch` for
some), a fifth of each class of each domain held out for testing, the rest trained on. Each run's labels.json holds the
mapping from labels to classes. Differences: frozen means frozen, in the batch statistics too; the head is a two-layer
MLP on the features; accuracy counts every image once.

Measured from imagenette64 to pacs64, seeds 0 and 1: A 59.5 %, C 64.3 %, E 40.1 %; B and D not yet. BYOL took 57 minutes
a seed, A and C 6, E 2, on one core each.
"""

from configs import byol, finetune
from jaxhw import study

SETTINGS = {
    "A: no pre-training": ("", False),
    "B: supervised": ("@source, supervised", False),
    "C: BYOL": ("@source, BYOL", False),
    "D: supervised, frozen": ("@source, supervised", True),
    "E: BYOL, frozen": ("@source, BYOL", True),
}


def get_config():
    """ResNet-18 at the size of picture that BYOL learns from."""
    bases = {"byol": byol.get_config("photos"), "supervised": finetune.get_config(), "target": finetune.get_config()}
    config = study.default_config(bases)
    normalise = config.bases.byol.normalise
    for base in (config.bases.supervised, config.bases.target):
        base.update({"image_size": config.bases.byol.image_size, "earlier_sizes": ()})
        base.update({"normalise": normalise, "batch_size": 64})
        base.augment.crop = "resized"
        base.augment.crop_scale = (0.2, 1.0)
    config.bases.supervised.update({"dataset": config.bases.byol.dataset, "epochs": 60.0})
    config.bases.supervised.update({"validation": config.bases.byol.validation, "test": False})
    config.bases.target.update({"dataset": "domains:pacs64", "epochs": 30.0})
    config.bases.target.model.head = "mlp"
    config.runs = (("source, BYOL", "byol", ()), ("source, supervised", "supervised", ()))
    for name, (start, frozen) in SETTINGS.items():
        config.runs += ((name, "target", (("init_from", start), ("frozen", frozen))),)
    config.seeds = (0, 1)
    config.curves = tuple(SETTINGS)
    return config

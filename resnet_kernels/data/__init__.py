"""Images to train and test on, and what is done to them first.

ds = data.load("digits")                                  # or cifar10, imagenet, synthetic
norm = data.normalisation(ds)                             # the training images' mean, per pixel
view = data.training_view(ds, norm)                       # crop, flip, colour, as the paper does
for images, labels in data.training_batches(ds.train, view, batch=128, seed=0, first=0, last=1000): ...
for images, labels in data.batches(ds.test, data.test_view(ds, norm), batch=256): ...
"""

from .batches import batches, training_batches
from .images import FolderImages, Images, TensorImages
from .normalisation import TORCHVISION, Normalisation, normalisation
from .sets import NAMES, DataSet, load
from .views import test_view, training_view

__all__ = [
    "NAMES",
    "TORCHVISION",
    "DataSet",
    "FolderImages",
    "Images",
    "Normalisation",
    "TensorImages",
    "batches",
    "load",
    "normalisation",
    "test_view",
    "training_batches",
    "training_view",
]

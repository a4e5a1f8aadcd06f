"""Image data sets: built-in ones, your own folder of images, and any data set of torchvision."""

from spikefit.data.images.any_torchvision import TorchvisionDataset
from spikefit.data.images.builtin import CIFAR10, CIFAR100, MNIST, Digits, FashionMNIST
from spikefit.data.images.image_folder import ImageFolder
from spikefit.data.images.in_memory import Augmented, Images

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "Augmented",
    "Digits",
    "FashionMNIST",
    "ImageFolder",
    "Images",
    "TorchvisionDataset",
]

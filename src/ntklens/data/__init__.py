"""Data sets and their readers: images in [0, 1] as (n, C, H, W), with class indices."""

from ntklens.data.dataset import Dataset, Split
from ntklens.data.registry import SOURCES, Source, dataset_names, find, load_dataset

__all__ = ["SOURCES", "Dataset", "Source", "Split", "dataset_names", "find", "load_dataset"]

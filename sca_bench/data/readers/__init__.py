"""Readers: from files as data sets publish them to a `RegionSet`. No torch.

A reader is one file: a class of settings (a `FileSplit`, `ImageFolderSplit` or `Split` with its own
`dataset`), a function that reads such a split, and a `ReaderSpec` that names both. What it needs is
imported from here:

* `RegionSet(name, images, regions)` of `ImageRecord`s by id and `Region`s is what it returns;
* `ImageFolder` finds image files by the names that annotations give, and refuses unsafe names;
* `upright_hw` says the size of an image whose annotations do not;
* `Collector` does what all readers of annotation files share: it selects images, cuts boxes at the
  border, drops what is of no use, and counts that;
* `read_json`, `get`, `get_id`, `check` and `claim` read JSON and say what is wrong, and where;
* `InputError(file, key, problem, fix)` is how a fault of the user's files is said.
"""

from sca_bench.data.image_files import ImageFolder
from sca_bench.data.readers.collector import Collector
from sca_bench.data.readers.json_files import check, claim, get, get_id, read_json
from sca_bench.data.region_set import RegionSet
from sca_bench.errors import InputError
from sca_bench.formats.pixels import upright_hw
from sca_bench.settings.base import of_kind
from sca_bench.settings.splits import FileSplit, ImageFolderSplit, Split
from sca_bench.specs.readers import ReaderSpec
from sca_bench.types import ImageRecord, Region

__all__ = [
    "Collector",
    "FileSplit",
    "ImageFolder",
    "ImageFolderSplit",
    "ImageRecord",
    "InputError",
    "ReaderSpec",
    "Region",
    "RegionSet",
    "Split",
    "check",
    "claim",
    "get",
    "get_id",
    "of_kind",
    "read_json",
    "upright_hw",
]

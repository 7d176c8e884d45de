"""Features: from face crops and sound to feature sequences, one file per clip and feature set.

``EXTRACTORS`` is the registry, ``extract`` runs it over a corpus.
"""

from emibook.features.base import Extractor
from emibook.features.extraction import extract
from emibook.features.registry import EXTRACTORS, copy_encoders, feature_table, load_encoder
from emibook.features.weights import parse_weights

__all__ = ["EXTRACTORS", "Extractor", "copy_encoders", "extract", "feature_table", "load_encoder", "parse_weights"]

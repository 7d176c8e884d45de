"""``facenet``: InceptionResnetV1, a network for face verification, through facenet-pytorch.

Source: the paper, section 2 (FaceNet); Schroff et al., "FaceNet" (2015); facenet-pytorch 2.5.3.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from emibook.features.image_encoder import (
    ImageEncoder,
    built,
    layout,
    matched,
    plain_state,
    resized,
    without_batch_norm,
)
from emibook.features.weights import Weights


class FaceNet(ImageEncoder):
    """The embedding by which InceptionResnetV1 tells people apart: 512 features per face, of length one.

    The crop is enlarged to 160 pixels and its bytes mapped to -1..1, as that network was trained. It was trained on
    upright boxes around the face, though, and the crops here are turned and scaled by the landmarks.
    """

    name, width = "facenet", 512
    pixels = 160
    # Random weights tell faces apart by a hundredth of a row's length, which bfloat16 rounds away.
    precision_on = staticmethod(lambda device: "float32")

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        model = built(self.network, weights, self.convert(weights.path(folder)) if weights.file else None)
        super().__init__(without_batch_norm(model.eval()), self.standardised, weights, device)

    @staticmethod
    def network() -> nn.Module:
        """The network with random numbers: (face, 3, 160, 160) to (face, 512)."""
        from facenet_pytorch import InceptionResnetV1

        return InceptionResnetV1(pretrained=None)

    def standardised(self, images: Tensor) -> Tensor:
        """(face, height, width, 3) bytes as (face, 3, 160, 160), each mapped as facenet-pytorch maps it."""
        from facenet_pytorch.models.mtcnn import fixed_image_standardization

        return fixed_image_standardization(resized(images, self.pixels))

    @classmethod
    def convert(cls, path: Path) -> dict[str, Tensor]:
        """The tensors to keep of the file that facenet-pytorch downloads: all but its last layer."""
        return matched(plain_state(path, "state_dict"), layout(cls.network), path, "InceptionResnetV1")

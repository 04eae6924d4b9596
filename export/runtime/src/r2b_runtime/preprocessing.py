"""Turns an image into a network's input, without TensorFlow.

The steps are those that r2b_zoo describes in model files: cut out the centre square, resize it by bicubic interpolation
as in TensorFlow 1, subtract the mean, and divide by the standard deviation. Every step is in float32 and in the order
of TensorFlow, so that the result equals that of `r2b_zoo.preprocess_input`.
"""

import dataclasses
import json
from typing import TYPE_CHECKING, Union

import numpy as np

from r2b_runtime import pixels
from r2b_runtime.resampling import resize

if TYPE_CHECKING:
    from PIL import Image

FORMAT = 1
RESIZE_RULE = "bicubic, TensorFlow 1 (align_corners=False, half_pixel_centers=False, a=-0.75)"


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Centre crop, resize, normalise: from uint8 (H, W) or (H, W, 1, 3 or 4) to float32 (height, width, channels).

    Attributes:
        height: rows of the result, 1 to 32,768.
        width: columns of the result, 1 to 32,768.
        channels: 3 (RGB) or 1 (grey).
        crop_fraction: side of the centre square that is kept, as a share of the image's shorter side, in (0, 1].
        mean: one number per channel, for pixel values in 0–255.
        std: one number per channel, not 0; the result is (image - mean) / std.

    Raises `ValueError` if a number is outside its range, or a result might not be finite.
    """

    height: int
    width: int
    channels: int
    crop_fraction: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_json(cls, text: str) -> "Preprocessing":
        """Reads the preprocessing that r2b_zoo wrote into a model file. Raises `ValueError` if it is not supported."""
        try:
            fields = json.loads(text)
            version, rule = fields.pop("format", None), fields.pop("resize", None)
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(
                f"the preprocessing in the model file is damaged ({error}); convert the model again"
            ) from None
        if version != FORMAT or rule != RESIZE_RULE:
            raise ValueError(
                f"the preprocessing in the model file has format {version!r} and resize {rule!r}; this "
                f"r2b-runtime knows format {FORMAT} and resize {RESIZE_RULE!r}: install a newer wheel of it"
            )
        try:
            mean, std = (tuple(map(float, fields[name])) for name in ("mean", "std"))
            return cls(**{**fields, "mean": mean, "std": std})
        except KeyError as error:
            reason = f"it has no {error}"
        except (OverflowError, TypeError, ValueError) as error:
            reason = str(error)
        raise ValueError(f"the preprocessing in the model file is damaged ({reason}); convert the model again")

    def __post_init__(self) -> None:
        sizes = (self.height, self.width)
        if not all(type(size) is int and 0 < size <= 1 << 15 for size in sizes):
            raise ValueError(f"height and width must be 1 to {1 << 15}; received {sizes}")
        if self.channels not in (1, 3) or len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(
                f"channels must be 1 or 3, with one mean and std each; received channels={self.channels}, "
                f"mean={self.mean}, std={self.std}"
            )
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must be in (0, 1]; received {self.crop_fraction}")
        if not pixels.normalises(self.mean, self.std):
            raise ValueError(
                f"mean and std must be finite in float32 and std not 0; received mean={self.mean}, std={self.std}"
            )

    def __call__(self, image: Union[np.ndarray, "Image.Image"]) -> np.ndarray:
        """Prepares an image of any size: an array of numbers in 0–255, or one of Pillow's images, of any mode.

        Grey is repeated over 3 channels, colours become grey for 1 channel, and alpha is dropped. Pillow's images are
        rotated as their EXIF data says.
        Returns float32 (height, width, channels). Raises `ValueError` for anything else.
        """
        if pixels.is_pillow_image(image):
            centre = pixels.rgb(image, self.crop_fraction)
        else:
            centre = pixels.crop(_checked(image), self.crop_fraction)
        centre = pixels.with_channels(centre, self.channels, self.height)
        return resize(centre, self.height, self.width, mean=self.mean, std=self.std)


def check_form(image: np.ndarray) -> None:
    """Raises `ValueError` if an array does not have the shape and type of an image; does not read its values."""
    rule = "an image must be one array of shape (height, width), or (height, width, 1, 3 or 4)"
    shape = image.shape
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[2] not in (1, 3, 4)):
        hint = "; Classifier.predict takes the images of a batch" if image.ndim == 4 else ""
        raise ValueError(f"{rule}; received shape {shape}{hint}")
    if 0 in shape:
        raise ValueError(f"{rule} with at least one pixel; received shape {shape}")
    if image.dtype.kind not in "iuf":
        raise ValueError(f"an image must hold uint8 values, or numbers in 0–255; received {image.dtype}")


def _checked(image: np.ndarray) -> np.ndarray:
    array = np.asarray(image)
    check_form(array)
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.dtype == np.uint8:
        return array
    if not (array.min() >= 0 and array.max() <= 255):  # NaN fails too
        raise ValueError(
            f"an image must hold uint8 values, or numbers in 0–255; received {array.dtype} from {array.min()} to "
            f"{array.max()}"
        )
    return array.astype(np.float32)

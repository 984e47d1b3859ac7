"""Laws and data sets: conf/data/*.yaml call `make(law, ambient=, blur=, **options)` for laws in
R^n, `image_set(name, ...)` for images, `texture(image)` for the spot noise of one."""

from diffgeo.data.curves import Curve, Moons, Parabola, Spiral, Swissroll
from diffgeo.data.datasets import of_dataset
from diffgeo.data.flat import Segment, Square, Tree
from diffgeo.data.gaussian import Gaussian, Line, Mixture, normal, simplex
from diffgeo.data.images import Images
from diffgeo.data.law import Ambient, Blurred, Law, make
from diffgeo.data.mapped import Mapped
from diffgeo.data.pixels import read_images
from diffgeo.data.points import Cloud, Points, random_points
from diffgeo.data.sets import image_set
from diffgeo.data.sphere import Circle, Sphere
from diffgeo.data.spot_noise import Texture, texture

__all__ = [
    "Ambient",
    "Blurred",
    "Circle",
    "Cloud",
    "Curve",
    "Gaussian",
    "Images",
    "Law",
    "Line",
    "Mapped",
    "Mixture",
    "Moons",
    "Parabola",
    "Points",
    "Segment",
    "Sphere",
    "Spiral",
    "Square",
    "Swissroll",
    "Texture",
    "Tree",
    "image_set",
    "make",
    "normal",
    "of_dataset",
    "random_points",
    "read_images",
    "simplex",
    "texture",
]

"""Laws and data sets: `make(law, ambient=, blur=, **options)` is what every conf/data/*.yaml calls."""
from diffgeo.data.curves import Curve, Moons, Parabola, Spiral, Swissroll
from diffgeo.data.flat import Segment, Square, Tree
from diffgeo.data.gaussian import Gaussian, Line, Mixture, normal
from diffgeo.data.law import Ambient, Blurred, Law, make
from diffgeo.data.points import Cloud, Points, random_points
from diffgeo.data.sphere import Circle, Sphere

__all__ = ["Ambient", "Blurred", "Circle", "Cloud", "Curve", "Gaussian", "Law", "Line", "Mixture", "Moons", "Parabola", "Points",
           "Segment", "Sphere", "Spiral", "Square", "Swissroll", "Tree", "make", "normal", "random_points"]

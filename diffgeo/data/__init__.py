"""Laws and data sets: `make(law, ambient=, blur=, **options)` is what every conf/data/*.yaml calls."""
from .curves import Curve, Moons, Parabola, Spiral, Swissroll
from .flat import Segment, Square, Tree
from .gaussian import Gaussian, Line, Mixture, normal
from .law import Ambient, Blurred, Law, make
from .points import Cloud, Points, random_points
from .sphere import Circle, Sphere

__all__ = ["Ambient", "Blurred", "Circle", "Cloud", "Curve", "Gaussian", "Law", "Line", "Mixture", "Moons", "Parabola", "Points",
           "Segment", "Sphere", "Spiral", "Square", "Swissroll", "Tree", "make", "normal", "random_points"]

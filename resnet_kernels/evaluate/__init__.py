"""Classification error: views of an image, scores averaged over views and over networks, error rates."""

from .errors import Errors, count, counts, errors
from .views import Views

__all__ = ["Errors", "Views", "count", "counts", "errors"]

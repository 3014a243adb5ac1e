"""Object detection as the paper's section 4.3 and appendix A do it: Faster R-CNN on a residual network.

    folder = detection.read([Path("VOC2007")], "trainval")
    settings = detection.Settings("resnet101", folder.classes)
    detector = detection.start(settings, folder, Path("resnet101.pth"))
    detection.Run(detector, settings, detection.Plan(), Path("runs/voc"), device).train(folder)
    scores = detection.score(test, detection.detect(detector, test.pictures, device))

The improvements of appendix B (box refinement, global context, testing at several scales) are not part of it.
"""

from .detectors import Settings, load, start
from .drawing import draw
from .evaluation import Scores, detect, score
from .folders import read
from .network import Detector, faster_rcnn, measure_statistics
from .pictures import Detections, Folder, Picture, picture
from .training import Plan, Run

__all__ = [
    "Detections",
    "Detector",
    "Folder",
    "Picture",
    "Plan",
    "Run",
    "Scores",
    "Settings",
    "detect",
    "draw",
    "faster_rcnn",
    "load",
    "measure_statistics",
    "picture",
    "read",
    "score",
    "start",
]

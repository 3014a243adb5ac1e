"""The demonstration behind ``resnet-kernels demo`` and the checks behind ``resnet-kernels verify``.

photograph -> prepare (networks of one set of weights) -> compare (unit by unit with the oracle) -> report

errors.py      what a user can put right, as one line
machine.py     which machine runs our kernels here
photograph.py  an image file as a network's input
networks.py    our network, torchvision's and the oracle's, with the same weights
record.py      which operator ran where, how often and how long
compare.py     our kernels and PyTorch's own beside float64
counters.py    what the simulator's checked build counts on sampled layers
predict.py     the roofline: what an H200 could do at best
show.py        all of it on the terminal
plots.py, report.py, report.css   the HTML report
verify.py      every operator and dtype against the error budget
"""
